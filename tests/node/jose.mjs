// Verifies a token with the `jose` package, as an application behind the proxy would. JOSE_TASK holds
// {token, jwks, issuer, audience, algorithms}; algorithms is ES256 alone unless given. One line comes out:
// {"valid": true, "header", "claims"} or {"valid": false, "error"}.
import { createLocalJWKSet, jwtVerify } from 'jose';

const { token, jwks, issuer, audience, algorithms = ['ES256'] } = JSON.parse(process.env.JOSE_TASK);
try {
  const { payload, protectedHeader } = await jwtVerify(token, createLocalJWKSet(jwks), {
    issuer, audience, algorithms,
  });
  console.log(JSON.stringify({ valid: true, header: protectedHeader, claims: payload }));
} catch (error) {
  console.log(JSON.stringify({ valid: false, error: String(error) }));
}
