// Runs in the browser, where React, createRoot, Ruru and RURU_CONFIG are there: asks for an account, then shows GraphiQL.
const KEPT = "rowhouse:token"; // in sessionStorage: for this tab, until it is closed
const { endpoint } = RURU_CONFIG;
const $ = (id) => document.getElementById(id);
const site = /^\/api\/v1\/sites\/([^/]+)\//.exec(endpoint)?.[1];

/** JSON without rounding: GraphiQL shows what was sent, also what a double cannot hold. */
function parse(text) {
  return JSON.parse(text, (_key, value, context) =>
    typeof value === "number" && JSON.rawJSON && context?.source && String(value) !== context.source
      ? JSON.rawJSON(context.source)
      : value,
  );
}

async function post(path, body, headers = {}) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, body: text ? parse(text) : null };
}

const bearer = (token) => ({ authorization: `Bearer ${token}` });

/** A problem+json in words. */
const words = ({ detail, hint }) => [detail, hint].filter(Boolean).join(". ");

function tell(problem) {
  $("problem").textContent = problem;
  $("problem").hidden = !problem;
}

function ask(problem) {
  sessionStorage.removeItem(KEPT);
  tell(problem);
  $("signed-in").hidden = true;
  $("signed-out").hidden = false;
}

function claimsOf(token) {
  try {
    const bytes = atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0))));
  } catch {
    return {};
  }
}

/** Shows GraphiQL with this token, if this address takes it; else says why not. */
async function enter(token) {
  const { status, body } = await post(endpoint, { query: "{ __typename }" }, bearer(token));
  if (status !== 200) return ask(words(body));
  sessionStorage.setItem(KEPT, token);
  tell("");
  const { email, exp } = claimsOf(token);
  $("account").textContent = email;
  $("until").textContent = new Date(exp * 1000).toLocaleTimeString();
  $("signed-out").hidden = true;
  $("signed-in").hidden = false;
  show(token);
}

let root = null;

function show(token) {
  // An authorization header of the headers editor comes later and wins.
  const fetcher = async (request, { headers = {} } = {}) => {
    const names = Object.keys(headers).map((name) => name.toLowerCase());
    const isOwn = names.includes("authorization");
    const { status, body } = await post(
      endpoint,
      request,
      isOwn ? headers : { ...bearer(token), ...headers },
    );
    if (status === 401 && !isOwn) ask(words(body));
    return body;
  };
  $("ruru-root").hidden = false;
  root ??= createRoot($("ruru-root"));
  root.render(React.createElement(Ruru, { ...RURU_CONFIG, fetcher }));
}

function onSubmit(form, work) {
  $(form).addEventListener("submit", (event) => {
    event.preventDefault();
    const fields = Object.fromEntries(new FormData(event.target));
    event.target.reset();
    work(fields).catch((error) => ask(`The server cannot be reached: ${error.message}`));
  });
}

onSubmit("log-in", async ({ email, password }) => {
  const { status, body } = await post("/api/v1/auth/login", { email, password, ...(site && { site }) });
  return status === 200 ? enter(body.access_token) : ask(words(body));
});
onSubmit("use-token", ({ token }) => enter(token.trim().replace(/^bearer\s+/i, "")));
$("sign-out").addEventListener("click", () => {
  sessionStorage.removeItem(KEPT);
  location.reload();
});
$("command").textContent = `npx rowhouse token --site ${site ?? "acme"} --account you@example.com`;

const kept = sessionStorage.getItem(KEPT);
if (kept) enter(kept).catch((error) => ask(`The server cannot be reached: ${error.message}`));
else ask("");
