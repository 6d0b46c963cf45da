//! Contracted rates that a card could not have, or that nobody could hold in memory.

use super::*;

const LEVEL: &str = r#"
[[meter]]
name = "level"
unit = "By"
scale = 0
aggregation = "time_weighted"
"#;

fn card(prices: &str) -> String {
    format!(
        "id = \"edge\"\ncurrency = \"EUR\"\nfrom = \"2026-01-01\"\norder = \"standard/1\"\n{prices}"
    )
}

#[test]
fn contracted_tiers_are_judged_like_those_of_the_card() {
    let price = "[[price]]\nid = \"p\"\nmeter = \"level\"\nmodel = \"volume\"\nper = \"1 GB\"\n\
                 over = \"period\"\ninterval = \"P1D\"\n\
                 tiers = [{ to = \"10 GB\", unit = \"6\" }, { unit = \"4.5\" }]\n";
    let of = |flat: &str| {
        let profile = format!(
            "{PROFILE}[[contracted]]\nprice = \"p\"\n\
             tiers = [{{ to = \"10 GB\", unit = \"5\"{flat} }}, {{ unit = \"4\" }}]\n"
        );
        Catalog::parse(&files(LEVEL, &card(price), &profile))
    };
    assert!(of("").is_ok());
    let errors = of(", flat = \"10\"").expect_err("fees of tiers would add up");
    assert_eq!(errors.errors().len(), 1, "{errors}");
    let message = errors.errors()[0].to_string();
    assert!(
        message.starts_with("profiles/acme.toml:6:")
            && message.contains("contracted[0].tiers: a fee that stays once its tier is reached"),
        "{message}"
    );
}

#[test]
fn contracted_tiers_of_all_profiles_are_bounded() {
    let rows: Vec<String> = (0..1024)
        .map(|row| format!("{{ when = {{ at = \"{row}\" }}, unit = \"1\" }}"))
        .collect();
    let price = format!(
        "[[price]]\nid = \"p\"\nmeter = \"net.bytes\"\nmodel = \"matrix\"\nper = \"1 GB\"\n\
         rows = [{}]\n",
        rows.join(", ")
    );
    let tiers: Vec<String> = (1..TIERS_MAX)
        .map(|bound| format!("{{ to = \"{bound} GB\", unit = \"1\" }}"))
        .collect();
    let agreed = format!(
        "[[contracted]]\nprice = \"p\"\ntiers = [{}, {{ unit = \"1\" }}]\n",
        tiers.join(", ")
    );
    let mut files = files(METERS, &card(&price), PROFILE);
    for name in ["a", "b", "c", "d"] {
        let profile = PROFILE.replace("acme", name);
        files.insert(
            format!("profiles/{name}.toml"),
            format!("{profile}{agreed}"),
        );
    }
    let read = Catalog::parse(&files).map(|_| ());
    let errors = read.expect_err("a million tiers of their own");
    assert_eq!(errors.errors().len(), 1, "{errors}");
    let message = errors.errors()[0].to_string();
    assert!(
        message.starts_with("profiles/d.toml:")
            && message.contains("contracted[0].tiers: contracted rates, and discounts of profiles")
            && message.contains("more than 1048576 prices and tiers"),
        "{message}"
    );
    files.remove("profiles/d.toml");
    assert!(Catalog::parse(&files).is_ok());
}
