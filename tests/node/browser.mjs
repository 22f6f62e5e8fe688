// A browser for tests: Chromium through playwright-core, driven by JSON lines.
//
// Each line on standard input is {"id", "page", "do", ...}; the answer is {"id", "value"} or
// {"id", "error"}. The first line on standard output is {"ready": true}. BROWSER_OPTIONS holds
// {"chromium": path, "patience": ms}.
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';

const options = JSON.parse(process.env.BROWSER_OPTIONS);
const modules = createRequire(process.env.POMERIUM_TEST_NODE_MODULES + '/../scripts.mjs');
const axe = readFileSync(modules.resolve('axe-core/axe.min.js'), 'utf8');

const browser = await chromium.launch({
  executablePath: options.chromium,
  headless: true,
  args: [
    '--no-sandbox',
    '--disable-gpu',
    // QUIC is off, or forced on for one origin whose certificate is known by its key.
    ...(options.quic
      ? [
          '--enable-quic',
          `--origin-to-force-quic-on=${options.quic.origins}`,
          `--ignore-certificate-errors-spki-list=${options.quic.spki}`,
        ]
      : ['--disable-quic']),
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--host-resolver-rules=MAP *.example.com 127.0.0.1, MAP *.localhost 127.0.0.1',
  ],
});

const pages = new Map();

const actions = {
  // A person: own cookies, own look.
  async open({ page, width, height, dark, scripts }) {
    const context = await browser.newContext({
      viewport: { width, height },
      colorScheme: dark ? 'dark' : 'light',
      reducedMotion: 'reduce',
      ignoreHTTPSErrors: true,
      javaScriptEnabled: scripts,
      // Pages have a strict content security policy; the checks below add scripts of their own.
      bypassCSP: false,
    });
    context.setDefaultTimeout(options.patience);
    const opened = await context.newPage();
    const messages = [];
    opened.on('console', (message) => message.type() === 'error' && messages.push(message.text()));
    opened.on('pageerror', (error) => messages.push(String(error)));
    pages.set(page, { opened, context, messages });
  },
  async goto({ page, url }) {
    const response = await pages.get(page).opened.goto(url, { waitUntil: 'load' });
    return { status: response?.status() ?? 0, url: pages.get(page).opened.url() };
  },
  async fill({ page, selector, value }) {
    await pages.get(page).opened.locator(selector).first().fill(value);
  },
  async click({ page, selector }) {
    await pages.get(page).opened.locator(selector).first().click();
  },
  // Clicks and waits until the page that this leads to has loaded.
  async follow({ page, selector }) {
    const { opened } = pages.get(page);
    await Promise.all([opened.waitForEvent('load'), opened.locator(selector).first().click()]);
    return opened.url();
  },
  async waitForUrl({ page, contains }) {
    await pages.get(page).opened.waitForURL((url) => url.href.includes(contains), { waitUntil: 'load' });
    return pages.get(page).opened.url();
  },
  async waitFor({ page, selector }) {
    await pages.get(page).opened.locator(selector).first().waitFor();
  },
  async text({ page, selector }) {
    return pages.get(page).opened.locator(selector).first().innerText();
  },
  async count({ page, selector }) {
    return pages.get(page).opened.locator(selector).count();
  },
  async url({ page }) {
    return pages.get(page).opened.url();
  },
  async evaluate({ page, script }) {
    return pages.get(page).opened.evaluate(script);
  },
  async cookies({ page }) {
    return pages.get(page).context.cookies();
  },
  async messages({ page }) {
    return pages.get(page).messages.splice(0);
  },
  async screenshot({ page, path }) {
    await pages.get(page).opened.screenshot({ path, fullPage: true });
  },
  // Width of what is drawn beyond the window: 0 when nothing has to be scrolled sideways.
  async overflow({ page }) {
    return pages.get(page).opened.evaluate(
      () => Math.max(0, document.documentElement.scrollWidth - document.documentElement.clientWidth),
    );
  },
  // A device key that the browser can reach, as a security key or as part of the device; always touched at once.
  async addAuthenticator({ page, inside, credentials }) {
    const { opened, context } = pages.get(page);
    const session = await context.newCDPSession(opened);
    await session.send('WebAuthn.enable');
    const { authenticatorId } = await session.send('WebAuthn.addVirtualAuthenticator', {
      options: {
        protocol: 'ctap2',
        transport: inside ? 'internal' : 'usb',
        hasResidentKey: true,
        hasUserVerification: true,
        isUserVerified: true,
        automaticPresenceSimulation: true,
      },
    });
    for (const credential of credentials) {
      await session.send('WebAuthn.addCredential', { authenticatorId, credential });
    }
    pages.get(page).authenticator = { session, authenticatorId };
  },
  // The keys that the device of the page holds, private halves and all.
  async credentials({ page }) {
    const { session, authenticatorId } = pages.get(page).authenticator;
    const { credentials } = await session.send('WebAuthn.getCredentials', { authenticatorId });
    return credentials;
  },
  // What axe finds, one line each. Runs in the browser's isolated world, so the policy of the page stays.
  async axe({ page }) {
    const { opened, context } = pages.get(page);
    const session = await context.newCDPSession(opened);
    try {
      const { frameTree } = await session.send('Page.getFrameTree');
      const { executionContextId: contextId } = await session.send('Page.createIsolatedWorld', {
        frameId: frameTree.frame.id,
        worldName: 'axe',
      });
      const run = async (expression) => {
        const { result, exceptionDetails } = await session.send('Runtime.evaluate', {
          contextId, expression, awaitPromise: true, returnByValue: true,
        });
        if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
        return result.value;
      };
      await run(`${axe}; 0`);
      return await run(`axe.run(document, { resultTypes: ['violations'] }).then((found) =>
        found.violations.flatMap((rule) => rule.nodes.map((node) =>
          rule.id + ' (' + rule.impact + '): ' + rule.help + ' at ' + node.target.join(' ') + ': ' +
          node.failureSummary.replace(/\\s+/g, ' '))))`);
    } finally {
      await session.detach();
    }
  },
  async close({ page }) {
    await pages.get(page).context.close();
    pages.delete(page);
  },
};

createInterface({ input: process.stdin })
  .on('line', async (line) => {
    const request = JSON.parse(line);
    try {
      const value = (await actions[request.do](request)) ?? null;
      console.log(JSON.stringify({ id: request.id, value }));
    } catch (error) {
      console.log(JSON.stringify({ id: request.id, error: String(error.message ?? error) }));
    }
  })
  .on('close', async () => {
    await browser.close();
    process.exit(0);
  });
console.log(JSON.stringify({ ready: true }));
