//! What the fuzz targets check: far more than that nothing panics.
//!
//! A target is a function of bytes that fails where a promise is broken, and says
//! whether the bytes were accepted. `cargo fuzz`
//! calls it with bytes that it makes up, `cargo test --test fuzz` with the files of the
//! corpora.

mod archive;
mod env;
mod procfile;
mod said;
mod settings;
mod units;
mod url;

pub use archive::archive;
pub use env::env;
pub use procfile::procfile;
pub use settings::settings;
pub use url::url;
