// What creating a site and an app, and becoming a site's role, cost with many sites present, for both kinds of
// installation. One JSON line per installation and number of sites (SITES, 10,000): medians in ms.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { logins } from "../server/database/connect.ts";
import { migrate } from "../server/database/migrate.ts";
import { startEmbedded } from "../server/embedded/postgres.ts";

const SITES = Number(process.env.SITES ?? 10_000);
const STEPS = [100, 1_000, 3_000, 10_000].filter((step) => step < SITES).concat(SITES);
const SAMPLES = 11;
const PASSWORDS = { gateway: "gateway-secret", worker: "worker-secret" };

for (const installer of ["superuser", "owner with CREATEROLE"]) await measure(installer);

async function measure(installer: string): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "rowhouse-sites-"));
  const cluster = await startEmbedded(dir, ["shared_buffers=512MB", "max_locks_per_transaction=1024"]);
  try {
    const root = await connect(cluster.operatorUrl);
    const url = new URL(cluster.operatorUrl);
    if (installer !== "superuser") {
      await root.query("create role landlord login createrole password 'landlord-secret'");
      await root.query("create database managed owner landlord");
      Object.assign(url, { username: "landlord", password: "landlord-secret", pathname: "/managed" });
    }
    const { operatorUrl, gatewayUrl } = logins(url.href, PASSWORDS);
    await migrate(logins(url.href, PASSWORDS));
    const operator = await connect(operatorUrl);
    const filler = await connect(
      Object.assign(new URL(cluster.operatorUrl), { pathname: url.pathname }).href,
    );
    const gateway = await connect(gatewayUrl);
    await operator.query("select tenancy.create_organization('bench')");
    let made = 0;
    for (const step of STEPS) {
      await fill(filler, installer, step);
      const createSite: number[] = [];
      const createApp: number[] = [];
      const first: number[] = [];
      const set: number[] = [];
      for (let i = 0; i < SAMPLES; i++) {
        const site = `made-${++made}`;
        createSite.push(await timed(operator, `select tenancy.create_site('bench', '${site}')`));
        createApp.push(await timed(operator, `select tenancy.create_app('${site}', 'crm')`));
        const become = `set role site_made_${made}`;
        first.push(await timed(gateway, become));
        for (let again = 0; again < 3; again++) set.push(await timed(gateway, become));
        await gateway.query("reset role");
      }
      const line = {
        installer,
        sites: step,
        create_site_ms: median(createSite),
        create_app_ms: median(createApp),
        set_role_ms: median(set),
        first_set_role_after_a_grant_ms: median(first),
      };
      console.log(JSON.stringify(line));
    }
    for (const client of [root, operator, filler, gateway]) await client.end();
  } finally {
    await cluster.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Sites up to `count` with roles like those of create_site_role, made by a superuser because that is quick. */
async function fill(filler: pg.Client, installer: string, count: number): Promise<void> {
  // What PostgreSQL gives the creator of a role who is no superuser.
  const creator =
    installer === "superuser"
      ? ""
      : "execute format('grant site_filled_%s to rowhouse_owner with admin true, inherit false, set false', n);";
  await filler.query(`do $$
    declare _from int := (select count(*) from tenancy.sites);
    begin
      for n in _from + 1 .. ${count} loop
        execute format('create role site_filled_%s nologin in role rowhouse_account role rowhouse_gateway', n);
        ${creator}
        execute format('alter role site_filled_%s set statement_timeout = ''30s''', n);
        insert into tenancy.sites (organization_id, name, title, role_name)
        select id, 'filled-' || n, 'Filled', 'site_filled_' || n from tenancy.organizations;
      end loop;
    end $$`);
}

async function connect(connectionString: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString });
  // A failure stops the server first; it is that failure which should be seen.
  client.on("error", () => {});
  await client.connect();
  return client;
}

async function timed(client: pg.Client, statement: string): Promise<number> {
  const start = performance.now();
  await client.query(statement);
  return performance.now() - start;
}

function median(times: number[]): number {
  return Number((times.sort((a, b) => a - b)[times.length >> 1] ?? 0).toFixed(2));
}
