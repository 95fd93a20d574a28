// REST and GraphQL of the gateway against limit, pipelined and naive (bench/reference.ts), interleaved, on one table.
// One JSON line per case and server: medians of rates and latencies over the rounds, CPU per request, ratios.
import { APP, any, median, openPlace, type Sample, type Server } from "./place.ts";

const RECORDS = Number(process.env.RECORDS ?? 100_000);
const CONNECTIONS = 20;
const SECONDS = Number(process.env.SECONDS ?? 4);
const ROUNDS = Number(process.env.ROUNDS ?? 3);
const CITIES = 500;

const place = await openPlace();
const { client, urls } = place;
await place.define("contacts");
await place.fill("contacts", RECORDS, CITIES);
// The same columns of the same table for the limit, as a superuser's own view: no row-level security.
await client.query(
  "do $$ begin execute format('create view bench_crm.unguarded as %s', pg_get_viewdef('bench_crm.contacts'::regclass)); end $$",
);
const ids = await place.ids("contacts");
const token = await place.token();
const [{ account, site }] = (
  await client.query(
    "select (select id from auth.accounts) as account, (select id from tenancy.sites) as site",
  )
).rows;

const rowhouse = await place.start("rowhouse", "gateway.ts", [
  urls.operatorUrl,
  urls.gatewayUrl,
  urls.workerUrl,
]);
const references: Server[] = [];
for (const name of ["limit", "pipelined", "naive"])
  references.push(
    await place.start(name, "reference.ts", [name, urls.operatorUrl, "bench_crm", account, site]),
  );

const city = () => `City ${Math.floor(Math.random() * CITIES)}`;
const record = () =>
  JSON.stringify({
    name: "Somebody New",
    email: "new@example.com",
    city: city(),
    age: 33,
    balance: 12.5,
    active: true,
    born: "1990-05-05",
    note: "inserted",
  });
// autocannon writes into the headers it is given: a new object each time.
// The references do not read it, but get it too, so that all answer the same request.
const auth = () => ({ authorization: `Bearer ${token}`, "content-type": "application/json" });
const FIELDS = "id name email city age balance active born note createdAt updatedAt version createdBy";
const graphql = (query: string, variables: object) => ({
  method: "POST",
  path: `${APP}/graphql`,
  headers: auth(),
  body: JSON.stringify({ query, variables }),
});

type Case = { reference: () => object; rest: () => object; graphql?: () => object };
const CASES: Record<string, Case> = {
  "read by id": {
    reference: () => ({ path: `/get/${any(ids)}`, headers: auth() }),
    rest: () => ({ path: `${APP}/contacts/${any(ids)}`, headers: auth() }),
    graphql: () => graphql(`query ($id: UUID!) { contact(id: $id) { ${FIELDS} } }`, { id: any(ids) }),
  },
  "first 20 newest": {
    reference: () => ({ path: "/list", headers: auth() }),
    rest: () => ({ path: `${APP}/contacts?sort=-created_at&limit=20`, headers: auth() }),
    graphql: () => graphql(`{ contacts(first: 20, orderBy: CREATED_AT_DESC) { nodes { ${FIELDS} } } }`, {}),
  },
  "filtered list": {
    reference: () => ({ path: `/filter/${encodeURIComponent(city())}`, headers: auth() }),
    rest: () => ({
      path: `${APP}/contacts?filter=${encodeURIComponent(JSON.stringify({ city: city() }))}&sort=-created_at&limit=20`,
      headers: auth(),
    }),
    graphql: () =>
      graphql(
        `query ($city: String!) { contacts(first: 20, orderBy: CREATED_AT_DESC, filter: {city: {equalTo: $city}}) { nodes { ${FIELDS} } } }`,
        { city: city() },
      ),
  },
  "single insert": {
    reference: () => ({ method: "POST", path: "/insert", headers: auth(), body: record() }),
    rest: () => ({ method: "POST", path: `${APP}/contacts`, headers: auth(), body: record() }),
  },
};

try {
  for (const [name, kinds] of Object.entries(CASES)) await measure(name, kinds);
} finally {
  await place.close();
}

async function measure(name: string, kinds: Case): Promise<void> {
  const contenders = [
    { name: "REST", server: rowhouse, request: kinds.rest },
    ...(kinds.graphql ? [{ name: "GraphQL", server: rowhouse, request: kinds.graphql }] : []),
    ...references.map((server) => ({ name: server.name, server, request: kinds.reference })),
  ];
  const samples = new Map(contenders.map((contender) => [contender.name, [] as Sample[]]));
  for (const { server, request } of contenders) await place.shoot(server, request, 1, CONNECTIONS);
  for (let round = 0; round < ROUNDS; round++) {
    for (const { name: who, server, request } of contenders)
      samples.get(who)?.push(await place.shoot(server, request, SECONDS, CONNECTIONS));
  }
  const rate = (who: string) => median(samples.get(who) ?? [], "rate");
  for (const { name: who } of contenders) {
    const list = samples.get(who) ?? [];
    const ratio = (to: string) => Number((rate(who) / rate(to)).toFixed(2));
    console.log(
      JSON.stringify({
        case: name,
        server: who,
        requests_per_second: Math.round(rate(who)),
        p50_ms: median(list, "p50"),
        p99_ms: median(list, "p99"),
        server_cpu_us: Math.round(median(list, "serverCpu")),
        postgres_cpu_us: Math.round(median(list, "postgresCpu")),
        of_limit: ratio("limit"),
        of_pipelined: ratio("pipelined"),
        of_naive: ratio("naive"),
      }),
    );
  }
}
