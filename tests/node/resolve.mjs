// Lets the scripts here import npm packages from the cache: bare names resolve as if the importing
// file lay beside the folder that POMERIUM_TEST_NODE_MODULES names.
import { register } from 'node:module';
import { pathToFileURL } from 'node:url';

const modules = process.env.POMERIUM_TEST_NODE_MODULES;
if (!modules) throw new Error('POMERIUM_TEST_NODE_MODULES is not set: run `cargo xtask test`');

const hook = `
  const here = ${JSON.stringify(new URL('.', import.meta.url).href)};
  const base = ${JSON.stringify(pathToFileURL(modules + '/../').href)} + 'scripts.mjs';
  export function resolve(name, context, next) {
    const bare = !/^(\\.|\\/|node:|file:|data:)/.test(name);
    const ours = context.parentURL?.startsWith(here) && !context.parentURL.includes('/node_modules/');
    return next(name, bare && ours ? { ...context, parentURL: base } : context);
  }
`;
register(`data:text/javascript,${encodeURIComponent(hook)}`);
