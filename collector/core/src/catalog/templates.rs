//! Templates: what several profiles have in common.
//!
//! A template has the keys of a profile, as many of them as it likes. A profile that names it
//! has them too; what the profile says itself stands above. There is one level: a template does
//! not build on another one, so what holds for a tenant stands in two files at most.

use std::sync::Arc;

use super::cards::Id;
use super::read::{Reader, Section};
use super::{Catalog, Places, profiles};

/// The key with which a profile names its template.
pub(super) const KEY: &str = "template";

/// Reads the file of one template. Its values are checked here, where they stand, and once more
/// as a part of every profile.
pub(super) fn read<'d>(
    catalog: &Catalog,
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    path: &str,
    places: &mut Places,
) {
    let before = reader.mistakes();
    let id = reader.parse::<Id>(root, "id", "the template's name such as \"europe\"");
    let own = id.as_ref().map(|(Id(id), _)| id.as_str());
    if let Some(field) = root.field(KEY) {
        let message = if field.value.as_str() == own {
            "the template builds on itself (expected its own keys)"
        } else {
            "a template does not build on another one: there is one level, so that what holds for \
             a tenant stands in two files at most (expected its own keys)"
        };
        reader.refuse_field(&field, message);
    }
    reader.only(root, &[&["id", KEY], profiles::TERMS].concat());
    reader.read_partial();
    profiles::read_terms(catalog, reader, root, places);
    let Some((Id(id), field)) = id else { return };
    if !places.claim(reader, &field, &format!("template `{id}`"), path) {
        return;
    }
    let sound = reader.mistakes() == before;
    let text = sound.then(|| Arc::from(reader.text_of_file()));
    places.templates.insert(id, text);
}

/// The mistake is noted, here or in the template.
pub(super) struct Broken;

/// The text of the template that a profile names, if it names one.
pub(super) fn named<'d>(
    reader: &mut Reader<'d>,
    root: &Section<'d>,
    places: &Places,
) -> Result<Option<Arc<str>>, Broken> {
    let expected = "the id of a template";
    let Some((Id(id), field)) = reader.maybe::<Id>(root, KEY, expected).ok_or(Broken)? else {
        return Ok(None);
    };
    match places.templates.get(&id) {
        Some(Some(text)) => Ok(Some(Arc::clone(text))),
        Some(None) => Err(Broken),
        None => {
            let message = format!(
                "template `{id}` is not declared (expected the `id` of a file in templates/)"
            );
            reader.refuse_field(&field, message);
            Err(Broken)
        }
    }
}
