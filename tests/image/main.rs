//! The image: Packer provisions a booted Debian 12 over SSH, its disk is frozen, and instances
//! of it are born, which deploy by their user-data. `make image` runs this; docs/image.md has
//! the figures.
//!
//! The instances are containers: they have no firmware, no boot loader and no kernel of their
//! own. cloud-init's data source is Ec2's; metadata and Auto Scaling are those of tests/aws.

#![allow(clippy::disallowed_methods, reason = "the tests are not the agent")]

mod born;
mod debian;
mod examples;
mod fleet;
mod image;
mod logs;
mod packer;
mod times;
mod user_data;
