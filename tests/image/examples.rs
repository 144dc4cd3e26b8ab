//! The apps of `examples/`, deployed by user-data on instances of the image.

use crate::fleet::{Fleet, Launched};
use crate::image::image;
use crate::user_data;
use testkit::app::BUCKET;
use testkit::instance::Image;
use testkit::runtime::{Runtime, packed};

const EXAMPLES: [(&str, Runtime); 6] = [
    ("go", Runtime::Go),
    ("java", Runtime::Java),
    ("node", Runtime::Node),
    ("python", Runtime::Base),
    ("ruby", Runtime::Ruby),
    ("static", Runtime::Base),
];

/// The gems that the Ruby app needs of Debian, as its README says.
const GEMS: [&str; 2] = ["puma", "ruby-sinatra"];

#[test]
fn each_example_runs_from_the_image() {
    let image = image();
    let fleet = Fleet::of(1);
    for (host, (name, runtime)) in (21..).zip(EXAMPLES) {
        let app = format!("hello-{name}");
        publish(&fleet, &app, &packed(name, runtime));
        let image = match name {
            "ruby" => image.clone().with_packages("image-gems", &GEMS),
            _ => image.clone(),
        };
        // One machine after the other, at an address of its own.
        fleet.group(&app, 1, &user_data::cloud_config_of_an_app());
        let launched = fleet.launch(&image, host);
        let Launched { instance, in_service, .. } = &launched;
        assert!(in_service.is_some(), "{app}: {}", launched.output());
        let page = fleet.network.http_get(&format!("http://{}:5000/", instance.address()));
        assert_eq!(page.expect("a page").body, "Hello from r1\n", "{app}");
        let current = format!("s3://{BUCKET}/{app}/production/current");
        instance.exec(&["deploy", "doctor", &current]).exits(0);
        let seconds = in_service.unwrap_or_default().as_secs_f64();
        println!("{app}: in service {seconds:.1} s after power on");
    }
}

fn publish(fleet: &Fleet, app: &str, packed: &Image) {
    let key = |file: &str| format!("{app}/production/r1/{file}");
    fleet.s3.put(BUCKET, &key("source.tar.gz"), packed.read("/srv/r1.tar.gz"));
    fleet.s3.put(BUCKET, &key("env"), packed.read("/srv/example/env"));
    fleet.point(app, "r1");
}
