//! `make instance`: an instance to try things on by hand, with an S3 beside it. Both are gone
//! when the standard input ends.

use std::io::{self, Read};
use testkit::host::{ACCESS_KEY, SECRET_KEY};
use testkit::instance::{Image, Network};
use testkit::s3::S3Server;

const PACKAGES: [&str; 7] =
    ["awscli", "curl", "nodejs", "npm", "python-is-python3", "python3-venv", "ruby"];

fn main() {
    let network = Network::new();
    let s3 = S3Server::from_listener(network.listen(9000), ACCESS_KEY, SECRET_KEY);
    let image = Image::base().with_packages("by-hand", &PACKAGES);
    let deb = testkit::instance::package();
    let image = image.layer("by-hand-agent", &[&deb], "dpkg --install ./*.deb");
    let instance = network.instance().image(&image).boot();
    let settings = format!(
        "AWS_ENDPOINT_URL=http://10.77.0.1:9000\nAWS_REGION=eu-central-1\n\
         AWS_ACCESS_KEY_ID={ACCESS_KEY}\nAWS_SECRET_ACCESS_KEY={SECRET_KEY}\n"
    );
    instance.write("/etc/deploy/agent.env", settings.as_str());
    instance.write("/etc/profile.d/s3.sh", format!("set -a\n{settings}\nset +a\n"));
    instance.exec(&["systemctl", "restart", "deployd"]).ok();
    // An S3 makes a bucket with its first object.
    s3.put("releases", "README", "Releases are kept here.\n");
    println!("An instance with the agent, Node, Python, Ruby and the AWS CLI; the bucket");
    println!("`releases` is at http://10.77.0.1:9000. A shell in it, from another terminal:\n");
    println!("    {}\n", instance.shell());
    println!("Control-D here ends it.");
    let _ = io::stdin().read_to_end(&mut Vec::new());
}
