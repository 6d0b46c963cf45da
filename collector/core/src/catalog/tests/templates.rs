//! Profiles take from templates what they do not say themselves.

use super::*;

const TEMPLATE: &str = r#"
id = "europe"
card = "edge"
zone = "Europe/Berlin"
period = { every = "P1M", anchor = "2026-01-01" }
"#;

/// The sound catalog with these templates and this profile of acme.
fn with(templates: &[&str], profile: &str) -> BTreeMap<String, String> {
    let mut files = files(METERS, CARD, profile);
    for (at, template) in templates.iter().enumerate() {
        files.insert(format!("templates/t{at}.toml"), (*template).to_owned());
    }
    files
}

fn refused(templates: &[&str], profile: &str) -> Vec<String> {
    let errors = Catalog::parse(&with(templates, profile)).expect_err("mistakes");
    errors.errors().iter().map(ToString::to_string).collect()
}

#[test]
fn what_a_profile_does_not_say_its_template_says() {
    let profile_of = |text: &str| {
        let catalog = Catalog::parse(&with(&[TEMPLATE], text)).expect("sound");
        catalog.profile(&tenant("acme")).expect("has one").clone()
    };
    let plain = Catalog::parse(&sound_files()).expect("sound");
    let inherited = profile_of("tenant = \"acme\"\ntemplate = \"europe\"\n");
    assert_eq!(Some(&inherited), plain.profile(&tenant("acme")));
    let own = profile_of(
        "tenant = \"acme\"\ntemplate = \"europe\"\nzone = \"UTC\"\nperiod = { every = \"P1D\" }\n",
    );
    assert_eq!(own.calendar.zone, Zone::UTC);
    assert_eq!(own.calendar.every, Every::DAY);
    assert_eq!(own.card, "edge");
}

#[test]
fn a_template_alone_describes_nobody() {
    let catalog = Catalog::parse(&with(&[TEMPLATE], PROFILE)).expect("sound");
    assert_eq!(catalog.profiles().count(), 1);
}

#[test]
fn a_mistake_is_shown_once_where_it_stands() {
    let acme = "tenant = \"acme\"\ntemplate = \"europe\"\n";
    let wrong = |from: &str, to: &str| refused(&[&TEMPLATE.replace(from, to)], acme);
    assert_eq!(
        wrong("Europe/Berlin", "Europe/Bonn"),
        [
            "templates/t0.toml:4:8: zone: unknown time zone `Europe/Bonn` (expected an IANA name such as `Europe/Berlin` or `UTC`)"
        ]
    );
    assert_eq!(
        wrong("card = \"edge\"", "card = \"rim\""),
        [
            "templates/t0.toml:3:8: card: card `rim` is not declared (expected the `id` of a file in cards/)"
        ]
    );
    assert_eq!(
        wrong("card = ", "tenant = \"x\"\ncard = "),
        [
            "templates/t0.toml:3:1: tenant: unknown key (expected `id`, `template`, `card`, `zone`, `period`, `late`, `settlement`, `contracted`, `discount`, \
                 `maximum`, `minimum`, `commitment`, `grant`, `tax`, `currency`, `payer` or `threshold`)"
        ]
    );
    assert_eq!(
        wrong("id = \"europe\"", "id = \"asia\""),
        [
            "profiles/acme.toml:2:12: template: template `europe` is not declared (expected the `id` of a file in templates/)"
        ]
    );
    // What neither says is missing in the profile.
    assert_eq!(
        wrong("zone = \"Europe/Berlin\"\n", ""),
        [
            "profiles/acme.toml:1:1: zone: missing (expected an IANA time zone such as \"Europe/Berlin\")"
        ]
    );
}

#[test]
fn templates_do_not_build_on_templates() {
    let acme = "tenant = \"acme\"\ntemplate = \"a\"\n";
    let a = TEMPLATE.replace("\"europe\"", "\"a\"\ntemplate = \"b\"");
    let b = TEMPLATE.replace("\"europe\"", "\"b\"\ntemplate = \"a\"");
    let circle = refused(&[&a, &b], acme);
    assert_eq!(circle.len(), 2, "{circle:?}");
    for (shown, file) in circle.iter().zip(["t0", "t1"]) {
        let expected =
            format!("templates/{file}.toml:3:12: template: a template does not build on");
        assert!(shown.starts_with(&expected), "{shown}");
    }
    let own = a.replace("template = \"b\"", "template = \"a\"");
    assert_eq!(
        refused(&[&own], acme),
        ["templates/t0.toml:3:12: template: the template builds on itself (expected its own keys)"]
    );
    let twice = refused(&[TEMPLATE, TEMPLATE], PROFILE);
    assert_eq!(
        twice,
        [
            "templates/t1.toml:2:6: id: template `europe` is declared twice (first in templates/t0.toml, id)"
        ]
    );
}

/// The templates and profiles of the documentation say what the text beside them says.
#[test]
fn the_documented_template_is_true() {
    let document = include_str!("../../../../../docs/catalog.md");
    let mut files = sound_files();
    for block in document.split("```toml\n").skip(1) {
        let text = block.split("```").next().expect("a block has an end");
        let first = text.lines().next().unwrap_or_default();
        // What does not name a file of the catalog is a part of the configuration.
        if let Some(path) = first.strip_prefix("# ") {
            files.insert(path.to_owned(), text.to_owned());
        }
    }
    let catalog = Catalog::parse(&files).unwrap_or_else(|errors| panic!("{errors}"));
    let globex = catalog.profile(&tenant("globex")).expect("documented");
    assert_eq!(globex.calendar.zone.name(), "Europe/Paris");
    assert_eq!(globex.card, "edge");
    assert_eq!(globex.calendar.every, Every::MONTH);
}
