//! `--batch 1,25%`: how many instances at a time.

use model::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// The sizes of the batches; the last one repeats.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Batches(Vec<Size>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Size {
    Instances(usize),
    Percent(usize),
}

impl Default for Batches {
    /// One instance alone, and then a quarter of the group at a time.
    fn default() -> Self {
        Batches(vec![Size::Instances(1), Size::Percent(25)])
    }
}

impl Batches {
    /// Splits a group, in its order.
    pub fn split<T: Clone>(&self, group: &[T]) -> Vec<Vec<T>> {
        let mut sizes = self.0.iter();
        let mut size = Size::Percent(100);
        let mut rest = group;
        let mut batches = Vec::new();
        while !rest.is_empty() {
            size = sizes.next().copied().unwrap_or(size);
            let (batch, left) = rest.split_at(size.of(group.len()).min(rest.len()));
            batches.push(batch.to_vec());
            rest = left;
        }
        batches
    }
}

impl Size {
    fn of(self, group: usize) -> usize {
        match self {
            Size::Instances(instances) => instances.max(1),
            Size::Percent(percent) => group.saturating_mul(percent).div_ceil(100).max(1),
        }
    }
}

impl FromStr for Batches {
    type Err = Error;

    fn from_str(text: &str) -> Result<Batches> {
        let size = |word: &str| {
            let (digits, percent) = match word.strip_suffix('%') {
                Some(digits) => (digits, true),
                None => (word, false),
            };
            let number = digits.parse::<usize>().ok().filter(|number| *number > 0)?;
            match percent {
                true => (number <= 100).then_some(Size::Percent(number)),
                false => Some(Size::Instances(number)),
            }
        };
        let sizes: Option<Vec<Size>> = text.split(',').map(|word| size(word.trim())).collect();
        sizes.map(Batches).ok_or_else(|| {
            let error = Error::usage(format!("{} are no batches", model::text::quoted(text)));
            error.help("give numbers of instances or percentages: 1,25%")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(text: &str, group: usize) -> Vec<usize> {
        let group: Vec<usize> = (0..group).collect();
        let batches = text.parse::<Batches>().unwrap().split(&group);
        assert_eq!(batches.concat(), group);
        batches.iter().map(Vec::len).collect()
    }

    #[test]
    fn the_last_size_repeats() {
        assert_eq!(sizes("1,25%", 25), [1, 7, 7, 7, 3]);
        assert_eq!(sizes("1,25%", 3), [1, 1, 1]);
        assert_eq!(sizes("1, 5, 100%", 60), [1, 5, 54]);
        assert_eq!(sizes("100%", 4), [4]);
        assert_eq!(sizes("10", 4), [4]);
        assert!(sizes("1", 0).is_empty());
    }

    #[test]
    fn refuses_what_is_no_size() {
        for text in ["", "0", "0%", "101%", "1,,2", "x", "-1", "1%%", "99999999999999999999999"] {
            assert!(text.parse::<Batches>().is_err(), "{text}");
        }
    }
}
