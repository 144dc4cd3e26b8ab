//! Applications as people write them, on the servers and launchers that they use: each is
//! deployed, handed over under load and refused.
//!
//! An app is a directory here and a line below. The directory has the content of the app's
//! repository: its Procfile and files, `env` with the variables of every release, and `pack.sh`
//! with the build server's steps before packing. The app responds to `/` at once and to `/slow`
//! after 6 s with $GREETING, and cannot start without it.
//!
//! `make test` plays the first three, and `make apps` all, with more handovers. The apps of
//! `examples/` are played as well, in `examples`.

#![allow(clippy::disallowed_methods, reason = "the tests are not the agent")]

mod examples;
mod framework;
mod handovers;
mod reach;

use framework::App;
use testkit::runtime::Runtime;

/// A test for each app.
macro_rules! apps {
    ($($(#[$attribute:meta])* $name:ident: $runtime:ident, $is_web:literal, $farewells:expr;)*) => {
        $(
            #[test]
            $(#[$attribute])*
            fn $name() {
                let name = stringify!($name);
                let runtime = Runtime::$runtime;
                handovers::play(&App { name, runtime, is_web: $is_web, farewells: &$farewells });
            }
        )*
    };
}

apps! {
    django: Python, true, [("Handling signal: term", 1), ("Shutting down: Master", 1)];
    express: Node, true, [("SIGTERM: closing", 1), ("\nclosed\n", 1)];
    worker: Base, false, [("SIGTERM\n", 1), ("bye\n", 1)];
    fastapi: Python, true, [("Shutting down", 1), ("Finished server process", 1)];
    flask: Python, true, [("Shutting down", 1), ("Finished server process", 1)];
    go: Go, true, [("SIGTERM: shutting down", 1)];
    java: Java, true, [("SIGTERM: stopping", 1)];
    php: Php, true, [("Finishing ...", 1), ("exiting, bye-bye!", 1)];
    pm2: Node, true, [("SIGTERM: closing", 2)];
    pnpm: Node, true, [("SIGTERM: closing", 1), ("\nclosed\n", 1)];
    sinatra: Ruby, true, [("Gracefully shutting down workers", 1)];
    unicorn: Ruby, true, [("master complete", 1)];
}
