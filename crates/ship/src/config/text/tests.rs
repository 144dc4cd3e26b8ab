use super::*;
use proptest::prelude::*;

fn applied(text: &str, pairs: &[(&str, Option<&str>)]) -> String {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned)));
    let applied = apply(text, &pairs.collect()).unwrap();
    assert!(!applied.anew, "{}", applied.text);
    applied.text
}

#[test]
fn keeps_what_people_wrote() {
    let text = "# Shop\n\nexport A='1' # one\nexport B=2 C=3\n# last\n";
    assert_eq!(
        applied(text, &[("B", Some("x y"))]),
        "# Shop\n\nexport A='1' # one\nexport B='x y' C=3\n# last\n"
    );
    assert_eq!(
        applied(text, &[("A", Some("9")), ("D", Some("4"))]),
        "# Shop\n\nexport A=9 # one\nexport B=2 C=3\n# last\nexport D=4\n"
    );
    assert_eq!(applied(text, &[("A", None)]), "# Shop\n\nexport B=2 C=3\n# last\n");
    assert_eq!(
        applied(text, &[("B", None), ("Z", None)]),
        "# Shop\n\nexport A='1' # one\nexport C=3\n# last\n"
    );
    assert_eq!(applied(text, &[("A", Some("1"))]), text);
}

#[test]
fn finds_assignments_wherever_they_are() {
    assert_eq!(applied("A=1; B=2; C=3", &[("B", None)]), "A=1; C=3");
    assert_eq!(applied("A=1\nA=2\n", &[("A", Some("3"))]), "A=1\nA=3\n");
    assert_eq!(applied("A=1\nB=1\nA=2", &[("A", None)]), "B=1\n");
    assert_eq!(applied("A='\nB=1\n'\n", &[("B", Some("2"))]), "A='\nB=1\n'\nB=2\n");
    assert_eq!(applied("# A=0\nA=1", &[("A", Some("2"))]), "# A=0\nA=2");
    assert_eq!(applied("A=1", &[("B", Some(""))]), "A=1\nB=''\n");
    assert_eq!(applied("export A B=1\nA=2\n", &[("A", None)]), "export B=1\n");
}

#[test]
fn a_value_that_refers_to_another_stays_what_it_is() {
    let text = "HOST=a # the host\nURL=http://$HOST/\n";
    assert_eq!(applied(text, &[("HOST", Some("b"))]), format!("{text}HOST=b\n"));
    let changes = Changes::from([("HOST".to_owned(), None)]);
    let applied = apply(text, &changes).unwrap();
    assert_eq!(applied, Applied { text: "export URL=http://a/\n".to_owned(), anew: true });
}

const VALUE: &str = "([\"\\\\`$'# \t\r\n\u{1}\u{7f}é!;=~{},]|[^\0\u{fdd0}-\u{fdef}\u{fffe}\u{ffff}\u{10000}-\u{10ffff}]){0,9}";

proptest! {
    #[test]
    fn any_value_survives(
        old in proptest::collection::btree_map("[A-E]", VALUE, 0..4),
        changes in proptest::collection::btree_map("[A-G]", proptest::option::of(VALUE), 0..4),
        commented in any::<bool>(),
    ) {
        let comment = if commented { " # '\"$(\n" } else { "\n" };
        let line = |(name, value): (&String, &String)| assignment(name, value) + comment;
        let text: String = old.iter().map(line).collect();
        let mut wanted = old.clone();
        for (name, value) in &changes {
            match value {
                Some(value) => drop(wanted.insert(name.clone(), value.clone())),
                None => drop(wanted.remove(name)),
            }
        }
        let applied = apply(&text, &changes).unwrap();
        prop_assert!(!applied.anew);
        let env = Env::parse(applied.text.as_bytes()).unwrap();
        let wanted: Vec<_> = wanted.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        prop_assert_eq!(env.iter().collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[A-C= \n;#'\"\\\\$x]{0,40}", value in VALUE) {
        let changes = Changes::from([("A".to_owned(), Some(value)), ("B".to_owned(), None)]);
        let _ = apply(&text, &changes);
    }
}
