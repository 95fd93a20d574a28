// Imported before anything of grafast, which reads this once and otherwise asks for it on standard error.
process.env.GRAPHILE_ENV ??= "production";
