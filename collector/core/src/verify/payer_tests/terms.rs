//! Terms of several periods, of which an earlier one is worked out again.

use tollgate_common::Timestamp;

use super::world::{World, files};

const COMMITMENT: &str = "\n[[commitment]]\nid = \"days\"\namount = \"10.00\"\nterm = \"P2D\"\n\
    pay = \"advance\"\ncounts = [\"requests\"]\n";

/// The 10.00 are nearly drawn down by the first day in the end. What another tenant has of the second day's
/// requests stays, and of what pays for them it has less.
#[test]
fn a_day_that_comes_to_more_leaves_less_to_the_next() {
    let mut files = files("tax = \"de\"", &[("shop", "payer = \"acme\"")]);
    for profile in ["profiles/acme.toml", "profiles/shop.toml"] {
        let profile = files.get_mut(profile).expect("there");
        *profile = profile.replace("PT1H", "P1D");
    }
    files
        .get_mut("cards/edge.toml")
        .expect("there")
        .push_str(COMMITMENT);
    let mut world = World::new(files);
    world.rows(&[("acme", 10, 40)]);
    world.now = Timestamp::from_secs(86_500);
    world.rows(&[("acme", 86_410, 30), ("shop", 86_420, 30)]);
    world.close(172_800);
    world.verify();
    world.correct("acme", "late", 20, 50);
    assert_eq!(
        world.close(172_801),
        [
            "acme reversal days 0 4.00",
            "acme charge days 0 -9.00",
            "acme reversal requests -40 -4.00",
            "acme charge requests 90 9.00",
            "acme reversal days 0 6.00",
            "acme charge days 0 -1.00",
            "acme reversal de 0 -0.57",
            "acme charge de 0 1.52",
            "shop share days 0 2.50",
            "shop share tax 0 0.48",
        ]
    );
    world.verify();
}
