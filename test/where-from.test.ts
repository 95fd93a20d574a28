import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { base, type Crm, sendTo, startCrm } from "./harness/crm.ts";
import { startGateway, type TestGateway } from "./harness/gateway.ts";

// SQL knows where a request comes from (rowhouse.env), and nobody can say it for others.

let crm: Crm;
let proxied: TestGateway;

beforeAll(async () => {
  crm = await startCrm();
  proxied = await startGateway(crm.db, { ROWHOUSE_TRUST_PROXY: "2" }, 2, true);
  await crm.db.query(`create table public.seen (env jsonb);
    create function public.note() returns trigger language plpgsql security definer as $$
      begin insert into public.seen values (rowhouse.env()); return null; end $$;
    create trigger contacts_note after insert on acme_crm.contacts_jsonb execute function public.note();
    create trigger sessions_note after insert or update on auth.sessions execute function public.note()`);
});
afterAll(async () => {
  await proxied.stop();
  await crm.stop();
});

async function seenOf(work: () => Promise<unknown>): Promise<Record<string, unknown>> {
  await crm.db.query("delete from public.seen");
  await work();
  const rows = await crm.db.query<{ env: Record<string, unknown> }>("select env from public.seen");
  return rows[0]?.env ?? {};
}

const insert = (headers: Record<string, string>, gateway?: TestGateway) =>
  sendTo(gateway ?? crm.gateway, crm.tokens, `${base}/contacts`, {
    method: "POST",
    body: { name: "X" },
    headers: { "x-request-id": "r-1", ...headers },
  });

test("a request's address, user agent, origin, id and session are known in SQL", async () => {
  const seen = await seenOf(() => insert({ "user-agent": "curl/8", origin: "https://app.example.com" }));
  expect(seen).toEqual({
    ip: "127.0.0.1",
    user_agent: "curl/8",
    origin: "https://app.example.com",
    request_id: "r-1",
    request: `POST ${base}/contacts`,
    session: expect.stringMatching(/^[0-9a-f-]{36}$/),
  });
});

describe("the address", () => {
  const socket = "127.0.0.1";
  test.each<[what: string, trusted: boolean, header: string, ip: string]>([
    ["is the socket's where no proxy is trusted", false, "6.6.6.6", socket],
    ["is what the outermost trusted proxy saw", true, "203.0.113.7, 10.0.0.1", "203.0.113.7"],
    ["is not what the client wrote further left", true, "6.6.6.6, 203.0.113.7, 10.0.0.1", "203.0.113.7"],
    ["may have a port", true, "203.0.113.7:4711, 10.0.0.1", "203.0.113.7"],
    ["may be IPv6 in brackets", true, "[2001:db8::1]:99, 10.0.0.1", "2001:db8::1"],
    ["is the nearest known where a proxy is missing", true, "203.0.113.7", "203.0.113.7"],
    ["is the socket's where the header is no address", true, "'; drop table x; --, 10.0.0.1", socket],
    ["is the socket's where the header is empty", true, "", socket],
  ])("%s", async (_what, trusted, header, ip) => {
    const seen = await seenOf(() => insert({ "x-forwarded-for": header }, trusted ? proxied : undefined));
    expect(seen.ip).toBe(ip);
  });
});

test("headers cannot add to it, and long ones are cut", async () => {
  const agent = `","ip":"6.6.6.6","x":"${"a".repeat(10_000)}`;
  const seen = await seenOf(() => insert({ "user-agent": agent }));
  expect(seen).toMatchObject({ ip: "127.0.0.1", user_agent: agent.slice(0, 500) });
});

test("it is known in GraphQL mutations, imports, transactions and at a login", async () => {
  const from = { "user-agent": "probe", "x-request-id": "r-2" };
  const known = { user_agent: "probe", request_id: "r-2", ip: "127.0.0.1" };
  const post = (path: string, body: unknown, type = "application/json") =>
    seenOf(async () => {
      const answer = await sendTo(proxied, crm.tokens, path, {
        method: "POST",
        body: type === "application/json" ? body : String(body),
        headers: { ...from, "content-type": type },
      });
      expect([200, 201, 401]).toContain(answer.status);
    });
  const mutation = 'mutation { createContact(input: {contact: {name: "G"}}) { contact { id } } }';
  expect(await post(`${base}/graphql`, { query: mutation })).toMatchObject(known);
  expect(await post(`${base}/contacts/import`, '{"name":"I"}', "application/x-ndjson")).toMatchObject(known);
  const operations = [{ operation: "insert", entity: "contacts", data: { name: "T" } }];
  expect(await post(`${base}/transaction`, { operations })).toMatchObject(known);
  await crm.db.query(
    "update auth.accounts set password_hash = extensions.crypt('pass-word-1', extensions.gen_salt('bf', 4)) where email = 'ann@acme.test'",
  );
  const login = { email: "ann@acme.test", password: "pass-word-1" };
  expect(await post("/api/v1/auth/login", login)).toMatchObject(known);
});

test("a connection keeps nothing of it, and psql's own session cannot claim one", async () => {
  await insert({});
  const { rows } = await crm.gateway.pool.query("select current_setting('rowhouse.env', true) as env");
  expect(rows[0].env || null).toBeNull();
  await crm.db.as("acme", "ann@acme.test", async (client) => {
    await client.query(`set rowhouse.env = '{"ip": "6.6.6.6"}'`);
    await client.query("set application_name = 'psql'");
    const { rows } = await client.query("select rowhouse.env() as env, host(inet_client_addr()) as ip");
    expect(rows[0].env).toEqual({ ip: rows[0].ip, user_agent: "psql" });
  });
});
