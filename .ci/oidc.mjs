// An OpenID provider on a free port of this computer. Its clients get tokens (JWT) for the audience "flyte" with their own
// credentials; what a client's name says after a dash is its group. Its address is written into the file that is named.
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { generateKeyPairSync } from "node:crypto";
import { Provider } from "oidc-provider";

const key = (kid, alg, ...how) => ({ ...generateKeyPairSync(...how).privateKey.export({ format: "jwk" }), kid, alg, use: "sig" });
const jwks = {
  keys: [
    key("rsa", "RS256", "rsa", { modulusLength: 2048 }),
    key("ec", "ES256", "ec", { namedCurve: "P-256" }),
    key("ed", "EdDSA", "ed25519"),
  ],
};
const clients = ["pack-packs", "person-ops", "stranger-none"].flatMap((name) =>
  ["RS256", "ES256", "EdDSA"].map((alg) => ({
    client_id: `${name}-${alg}`,
    client_secret: "secret",
    grant_types: ["client_credentials"],
    redirect_uris: [],
    response_types: [],
  })),
);

const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    jwks,
    clients,
    enabledJWA: { idTokenSigningAlgValues: ["RS256", "ES256", "EdDSA"] },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => "urn:flyte",
        getResourceServerInfo: (ctx, resource, client) => ({
          scope: "",
          audience: "flyte",
          accessTokenTTL: 300,
          accessTokenFormat: "jwt",
          jwt: { sign: { alg: client.clientId.split("-")[2] } },
        }),
      },
    },
    extraTokenClaims: (ctx, token) => ({ groups: [token.clientId.split("-")[1]], pack: "Mine" }),
  });
  server.on("request", provider.callback());
  writeFileSync(process.argv[2], `${issuer}\n`);
});
