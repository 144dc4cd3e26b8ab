//! `deploy cancel`: the end of work that waits, or has not committed its release yet.

use super::operator::Operator;
use super::work::{Followed, Piece, Work};
use model::error::{Error, Result};
use model::event::Outcome;
use std::sync::Arc;

/// Cancels what `[APP|ID]` stands for, and waits until it has ended.
pub(super) async fn cancel(
    work: &Work,
    operator: &Operator,
    word: Option<&str>,
) -> Result<Outcome> {
    let chosen = choose(work, word)?;
    let (mut cancelled, mut too_late) = (Vec::new(), None);
    // Waiting jobs first: none of them may begin meanwhile.
    for piece in chosen.iter().rev() {
        match piece.cut.cancel(&operator.name) {
            Ok(()) => cancelled.push(piece.clone()),
            Err(why) => too_late = Some(late(piece, why)),
        }
    }
    work.ended(&cancelled).await;
    match too_late {
        Some(error) if cancelled.is_empty() => Err(error),
        _ => {
            let what: Vec<_> = cancelled.iter().rev().map(|piece| told(work, piece)).collect();
            let rest = too_late.map(|error| format!("; {}", error.chain())).unwrap_or_default();
            Ok(Outcome::done(format!("{}{rest}", what.join("; "))))
        }
    }
}

/// The work of an app, a piece of work by its id, or the only one there is.
fn choose(work: &Work, word: Option<&str>) -> Result<Vec<Arc<Piece>>> {
    let mut live = work.live();
    live.retain(|piece| !piece.is_chore());
    let list = || live.iter().map(|piece| format!("{} ({})", piece.id, piece.what));
    let chosen: Vec<_> = match word {
        None if live.len() > 1 => {
            let why = format!("there are several: {}", list().collect::<Vec<_>>().join(", "));
            let error = Error::usage("cancel what is under way").because(why);
            return Err(error.help("name an app or an id"));
        }
        None => live,
        Some(word) => {
            let named = |piece: &&Arc<Piece>| piece.id == word || piece.app.as_str() == word;
            live.iter().filter(named).cloned().collect()
        }
    };
    if chosen.is_empty() {
        let what = word.map_or("cancel".to_owned(), |word| format!("cancel {word}"));
        let error = Error::usage(what).because("nothing of it waits or is under way");
        return Err(error.help("`deploy status` says what is"));
    }
    Ok(chosen)
}

fn late(piece: &Piece, why: &str) -> Error {
    let error = Error::usage(format!("cancel {}", piece.what)).because(match why {
        "restart" | "stop" | "start" | "remove" => format!("a {why} cannot be taken back"),
        why => why.to_owned(),
    });
    error.help(format!("`deploy rollback {}` takes a committed release back", piece.app))
}

/// How it ended: what was about to end by itself may have done so.
fn told(work: &Work, piece: &Piece) -> String {
    match work.find(&piece.id) {
        Some(Followed::Ended(ended)) => ended.outcome.message.clone(),
        _ => format!("cancelled {}", piece.what),
    }
}
