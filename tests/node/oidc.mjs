// A certified OpenID Connect provider on a free port of 127.0.0.1.
//
// Options come as JSON in OIDC_OPTIONS:
//   clients  client metadata as the package takes it
//   users    login name -> { password, claims }
//   auto     login name that is signed in without a page; absent: a sign-in form
// The first line on standard output is {"port": N}: it is ready. Then each line on standard input
// changes something: {"users": {...}} replaces the users, {"auto": "name" | null} the automatic one,
// {"age": N} says that whoever signs in did so N seconds ago, and is answered by a line {"done": true}.
// Whoever gives the code 123456 beside the password has signed in with two factors (amr otp, acr gold).
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import Provider from 'oidc-provider';

const options = JSON.parse(process.env.OIDC_OPTIONS);
let { users, auto } = options;
let age = 0;

const server = createServer();
await new Promise((done) => server.listen(Number(process.env.OIDC_PORT ?? 0), '127.0.0.1', done));
const port = server.address().port;

function account(id) {
  const found = Object.values(users).find((user) => user.claims.sub === id);
  return found && { accountId: id, claims: async () => found.claims };
}

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: options.clients,
  findAccount: async (_ctx, id) => account(id),
  claims: {
    openid: ['sub', 'amr'],
    email: ['email', 'email_verified'],
    profile: ['name', 'given_name', 'family_name', 'picture', 'locale'],
    groups: ['groups', 'department'],
  },
  scopes: ['openid', 'offline_access', 'email', 'profile', 'groups'],
  conformIdTokenClaims: false,
  acrValues: ['silver', 'gold'],
  pkce: { methods: ['S256'], required: () => true },
  features: {
    devInteractions: { enabled: false },
    revocation: { enabled: true },
    rpInitiatedLogout: {
      enabled: true,
      // Signs out without asking: the page would only be in the way of a test.
      logoutSource: async (ctx, form) => {
        ctx.body = `<!doctype html><title>Sign out</title>${form}
          <button type="submit" form="op.logoutForm" name="logout" value="yes">Sign out</button>`;
      },
    },
  },
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
  cookies: { keys: ['a key for tests only'], short: { path: '/' } },
  ttl: { AccessToken: 3600, AuthorizationCode: 60, IdToken: 3600, Session: 3600, Interaction: 600, Grant: 3600, RefreshToken: 3600 },
  issueRefreshToken: async (_ctx, client, code) =>
    client.grantTypeAllowed('refresh_token') && code.scopes.has('offline_access'),
  // The person agreed by signing in: no page that asks for consent.
  loadExistingGrant: async (ctx) => {
    const { client, session, provider } = ctx.oidc;
    const known = session.grantIdFor(client.clientId);
    if (known) return provider.Grant.find(known);
    const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope('openid offline_access email profile groups');
    await grant.save();
    return grant;
  },
});

const page = (uid, problem) => `<!doctype html><html lang="en"><title>Provider</title><h1>Provider</h1>
  <p>${problem}</p><form method="post" action="/interaction/${uid}">
  <label>User <input type="text" name="login" autocomplete="username"></label>
  <label>Password <input type="password" name="password" autocomplete="current-password"></label>
  <label>Code <input type="text" name="code" autocomplete="one-time-code"></label>
  <button type="submit">Sign in</button></form></html>`;

async function body(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return new URLSearchParams(Buffer.concat(parts).toString());
}

async function interaction(request, response) {
  const { uid, prompt } = await provider.interactionDetails(request, response);
  const signIn = (user, code) => {
    const how = code === '123456' ? { amr: ['pwd', 'otp'], acr: 'gold' } : { amr: ['pwd'], acr: 'silver' };
    const ts = Math.floor(Date.now() / 1000) - age;
    return provider.interactionFinished(request, response, { login: { accountId: user.claims.sub, ts, ...how } });
  };
  if (prompt.name !== 'login') throw new Error(`no page for the prompt ${prompt.name}`);
  if (auto) return signIn(users[auto]);
  let problem = '';
  if (request.method === 'POST') {
    const form = await body(request);
    const user = users[form.get('login')];
    if (user && user.password === form.get('password')) return signIn(user, form.get('code'));
    problem = 'Wrong user or password';
  }
  response.setHeader('content-type', 'text/html; charset=utf-8');
  response.end(page(uid, problem));
}

const callback = provider.callback();
server.on('request', (request, response) => {
  if (!request.url.startsWith('/interaction/')) return callback(request, response);
  interaction(request, response).catch((error) => {
    response.statusCode = 500;
    response.end(String(error));
  });
});
provider.on('server_error', (_ctx, error) => console.error(error));

createInterface({ input: process.stdin }).on('line', (line) => {
  const change = JSON.parse(line);
  if ('users' in change) users = change.users;
  if ('auto' in change) auto = change.auto;
  if ('age' in change) age = change.age;
  console.log(JSON.stringify({ done: true }));
});
console.log(JSON.stringify({ port }));
