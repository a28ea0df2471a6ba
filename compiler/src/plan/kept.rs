//! Texts of stages that are shown once it is known which of several plans is taken.

use super::Dump;
use crate::error::Result;
use std::cell::RefCell;

/// The texts of a plan's stages, in order.
pub(super) type Texts = Vec<(String, String)>;

/// What `plan` gives, and the texts that `dump` would have shown meanwhile.
pub(super) fn keeping<T>(dump: &Dump, plan: impl FnOnce(&Dump) -> Result<T>) -> Result<(T, Texts)> {
    let texts = RefCell::new(Texts::new());
    let keep = |stage: &str, text: Option<String>| {
        text.map(|text| texts.borrow_mut().push((stage.to_string(), text)))
    };
    let planned = plan(&|stage, text| dump(stage, &|| keep(stage, text()).and(None)))?;
    Ok((planned, texts.into_inner()))
}

/// Shows texts that were kept.
pub(super) fn show(dump: &Dump, texts: Texts) {
    texts.into_iter().for_each(|(stage, text)| dump(&stage, &|| Some(text.clone())));
}
