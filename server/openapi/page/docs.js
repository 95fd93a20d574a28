// Runs in the browser beside Swagger UI: asks for a token, then shows the reference of the app at this address.
const KEPT = "rowhouse:token"; // in sessionStorage, as GraphiQL's: for this tab, until it is closed
const $ = (id) => document.getElementById(id);
const root = location.pathname.replace(/\/docs\/?$/, "");
const site = /\/sites\/([^/]+)/.exec(root)?.[1];
$("command").textContent = `npx rowhouse token --site ${site ?? "<site>"} --account you@example.com`;

async function enter(token) {
  const response = await fetch(`${root}/openapi.json`, { headers: { authorization: `Bearer ${token}` } });
  const body = await response.json();
  if (!response.ok) return ask([body.detail, body.hint].filter(Boolean).join(". "));
  sessionStorage.setItem(KEPT, token);
  $("use-token").hidden = true;
  globalThis.SwaggerUIBundle({
    spec: body,
    domNode: $("reference"),
    deepLinking: true,
    validatorUrl: null, // which would tell a stranger's server of this app
    requestInterceptor: (request) => {
      request.headers.authorization ??= `Bearer ${token}`;
      return request;
    },
  });
}

function ask(problem) {
  sessionStorage.removeItem(KEPT);
  $("problem").textContent = problem;
  $("use-token").hidden = false;
}

$("use-token").addEventListener("submit", (event) => {
  event.preventDefault();
  enter(new FormData(event.target).get("token").trim());
});
const kept = sessionStorage.getItem(KEPT);
if (kept) enter(kept);
else ask("");
