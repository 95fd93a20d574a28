import pg from "pg";
import { logins } from "./server/database/connect.ts";
import { migrate } from "./server/database/migrate.ts";
import { startEmbedded } from "./server/embedded/postgres.ts";

const c = await startEmbedded("/tmp/tmp.d8W55wcSP4/up", []);
try {
  const urls = logins(c.operatorUrl, { gateway: c.gatewayPassword, worker: "x" });
  console.log(await migrate(urls));
  const client = new pg.Client({ connectionString: c.operatorUrl });
  await client.connect();
  if (process.argv[2] === "old") {
    await client.query("select tenancy.create_organization('acme'), tenancy.create_site('acme','acme')");
    await client.query("select tenancy.create_app('acme','crm')");
    await client.query(
      `select data.define_entity('acme/crm','c','{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"string","x-index":true}}}')`,
    );
    await client.query(`select data.insert('acme/crm/c','[{"a":"1","b":"2"}]')`);
  } else {
    await client.query(`select data.insert('acme/crm/c','[{"a":"3","b":"4"}]')`);
    await client.query(
      `select data.update('acme/crm/c',(select id from acme_crm.c where a = '3'), '{"b": "5"}')`,
    );
    console.log((await client.query(`select data.find('acme/crm/c','{"filter":{"b":"5"}}') as p`)).rows);
    console.log(
      (
        await client.query(
          `select data.plan('acme/crm/c','{"type":"object","properties":{"aa":{"type":"integer","x-renamed-from":"a"},"b":{"type":"string"}}}')->>'plan' as p`,
        )
      ).rows,
    );
    await client.query(`select data.apply((select id from data.plans limit 1), true)`);
    console.log(
      (await client.query("select aa,b,version from acme_crm.c")).rows,
      (await client.query("select * from acme_crm.c_jsonb")).rows,
    );
    await client.query("select data.convert_storage('acme/crm/c','flat')");
    await client.query("call data.run_operations()");
    console.log((await client.query("select * from acme_crm.c_flat")).rows);
    await client.query("select data.rollback('acme/crm/c',1)");
    console.log((await client.query("select a,b from acme_crm.c")).rows);
  }
  await client.end();
} finally {
  await c.stop();
}
