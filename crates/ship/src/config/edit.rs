//! `ship config edit`: the whole text, in an editor.

use super::compare::Differences;
use super::text::{self, Applied};
use super::{Changed, TRIES, busy, refuse_overlap, write};
use crate::check;
use crate::context::Context;
use crate::objects::Condition;
use crate::place::ENV;
use async_trait::async_trait;
use model::error::{Error, Result};
use model::release::env::Env;
use std::sync::Arc;

/// A way to change a text: a person's editor, or a test's function.
#[async_trait]
pub trait Editor: Send + Sync {
    /// Returns the changed text.
    async fn edit(&self, text: &str) -> Result<String>;

    /// Shows why the text is refused; returns whether the person wants to correct it.
    fn again(&self, why: &Error) -> bool;
}

/// The config as the person has it before them.
struct Edited {
    text: String,
    env: Env,
}

/// Edits the config. Changes of other names that come between are kept.
pub async fn edit(cx: &Context, editor: Arc<dyn Editor>) -> Result<Changed> {
    let key = cx.place.env();
    let object = cx.store.get(&key).await?;
    let (bytes, mut unchanged) = match object {
        Some(object) => (object.bytes, Condition::Unchanged(object.etag)),
        None => (Vec::new(), Condition::Absent),
    };
    let text = String::from_utf8(bytes).map_err(|why| {
        let error = Error::unusable(format!("edit {}", cx.store.url(&key))).because(why);
        error.help("save the file as UTF-8, and upload it")
    })?;
    // What cannot be parsed is nobody's in particular; it is here to be corrected.
    let base = Env::parse(text.as_bytes()).unwrap_or_default();
    let mut edited = ask(&*editor, &text).await?;
    let mine = Differences::between(&base, &edited.env);
    let changes = mine.changes(&edited.env);
    if edited.text == text {
        return Ok(Changed { differences: mine, anew: false });
    }
    let (mut anew, mut seen) = (false, base);
    for _ in 0..TRIES {
        let applied = Applied { text: edited.text.clone(), anew };
        if write(cx, applied, unchanged).await? {
            return Ok(Changed { differences: mine, anew });
        }
        let now = super::read(cx).await?;
        let theirs = Differences::between(&seen, &now.env);
        refuse_overlap(cx, &theirs, &changes, &now.env)?;
        let merged = text::apply(&edited.text, &theirs.changes(&now.env))?;
        edited.env = check::env(merged.text.as_bytes(), ENV)?;
        (edited.text, anew) = (merged.text, anew || merged.anew);
        (seen, unchanged) = (now.env, now.unchanged);
    }
    Err(busy(cx, "others change it all the time"))
}

/// Has the text edited until it is accepted, or given up.
async fn ask(editor: &dyn Editor, text: &str) -> Result<Edited> {
    let mut text = text.to_owned();
    loop {
        text = editor.edit(&text).await?;
        match check::env(text.as_bytes(), ENV) {
            Ok(env) => return Ok(Edited { text, env }),
            Err(why) if editor.again(&why) => {}
            Err(why) => return Err(why),
        }
    }
}
