//! The tar stream inside a compressed archive, in bounded memory.
//!
//! Errors here are about the compression (truncated, corrupt, trailing data); errors in the tar
//! stream itself come from `unpack`.

mod members;

use members::{Format, Members};
use model::error::Error;
use model::release::compression::Compression;
use std::io::{self, BufRead, ErrorKind, Read};

/// The advice against damage in transit.
const AGAIN: &str = "pack and upload the release again";

/// A reader of the tar stream inside `compressed`.
///
/// Gzip of several members (pigz, concatenated files) and zstd of several frames read as one
/// stream; zeros after the last one are ignored. Truncated input, corrupt data, a failed checksum
/// and other bytes after the end are errors of the reader, each an [`Error`] inside the
/// `io::Error`. `compressed` returns its own failures in the same form, and they pass unchanged:
/// any other error of it would look like corrupt data.
///
/// The end is checked only by reading to the end.
pub fn inflate<'a>(
    compressed: impl BufRead + Send + 'a,
    how: Compression,
) -> Result<Box<dyn Read + Send + 'a>, Error> {
    let members = |compressed, format| {
        let started = Members::new(compressed, format);
        started.map_err(|e| Error::failed("cannot start the decoder of the archive").because(e))
    };
    let decoder: Box<dyn Read + Send + 'a> = match how {
        Compression::Zstd => Box::new(members(compressed, Format::Zstd)?),
        Compression::Gzip => Box::new(members(compressed, Format::Gzip)?),
        Compression::Plain => Box::new(compressed),
    };
    Ok(Box::new(Inflated { decoder, how, begun: false }))
}

/// The decoded bytes, with errors that explain the damage to the archive.
struct Inflated<'a> {
    decoder: Box<dyn Read + Send + 'a>,
    how: Compression,
    /// Whether anything was decoded: from then on an unknown header follows the archive's end, and
    /// is not its beginning.
    begun: bool,
}

impl Read for Inflated<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.decoder.read(buffer) {
            Ok(count) => {
                self.begun |= count > 0;
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
            Err(error) if carries_our_own(&error) => Err(error),
            Err(error) => Err(io::Error::other(self.explain(error))),
        }
    }
}

impl Inflated<'_> {
    /// The decoders distinguish these cases by their messages alone; an unknown message becomes
    /// "corrupt", with the decoder's words as the reason.
    fn explain(&self, error: io::Error) -> Error {
        let name = self.how.archive_name();
        let format = match self.how {
            Compression::Zstd => "zstd",
            Compression::Gzip => "gzip",
            Compression::Plain => "tar",
        };
        let said = error.to_string();
        let strange =
            said.contains("Unknown frame descriptor") || said.contains("invalid gzip header");
        if error.kind() == ErrorKind::UnexpectedEof {
            Error::unusable(format!("{name} is truncated"))
                .because(format!("the {format} stream ends before its end mark"))
                .help(AGAIN)
        } else if strange && self.begun {
            Error::unusable(format!("{name} has other bytes after its end"))
                .because(format!("what follows the {format} stream is not {format}"))
                .help(AGAIN)
        } else if strange {
            Error::unusable(format!("{name} is not in the {format} format"))
                .because(error)
                .help("the name must tell the compression: .tar.zst, .tar.gz or .tar")
        } else if said.contains("too much memory") {
            Error::unusable(format!("{name} needs too much memory to decompress"))
                .because("its zstd window is larger than 128 MiB")
                .help("compress with zstd's --long=27 or less")
        } else {
            Error::unusable(format!("{name} is corrupt")).because(error).help(AGAIN)
        }
    }
}

fn carries_our_own(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Error>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::error::Exit;
    use std::io::{BufReader, Write};

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(data: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    /// Poorly compressible, so that damage in the middle hits data.
    fn data() -> Vec<u8> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..300_000).map(|_| next()).collect()
    }

    fn read(compressed: &[u8], how: Compression) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        match inflate(compressed, how)?.read_to_end(&mut out) {
            Ok(_) => Ok(out),
            Err(error) => Err(error.downcast::<Error>().unwrap()),
        }
    }

    fn refusal(compressed: &[u8], how: Compression) -> String {
        let error = read(compressed, how).unwrap_err();
        assert_eq!(error.exit(), Exit::Unusable);
        error.to_string()
    }

    type Pack = fn(&[u8]) -> Vec<u8>;

    const PACKED: [(Compression, Pack); 2] = [(Compression::Gzip, gzip), (Compression::Zstd, zstd)];

    #[test]
    fn reads_each_format_and_several_streams_in_one() {
        let data = data();
        assert_eq!(read(&data, Compression::Plain).unwrap(), data);
        for (how, pack) in PACKED {
            assert_eq!(read(&pack(&data), how).unwrap(), data);
            let (front, back) = data.split_at(1000);
            let joined = [pack(front), pack(b""), pack(back)].concat();
            assert_eq!(read(&joined, how).unwrap(), data);
        }
    }

    #[test]
    fn names_a_truncated_archive_wherever_it_is_cut() {
        let data = data();
        for (how, pack) in PACKED {
            let packed = pack(&data);
            for keep in [0, 1, 7, 20, packed.len() / 2, packed.len() - 5, packed.len() - 1] {
                let said = refusal(&packed[..keep], how);
                assert_eq!(said, format!("{} is truncated", how.archive_name()), "{keep}");
            }
        }
    }

    #[test]
    fn names_corrupt_data_and_a_checksum_that_fails() {
        for (how, pack) in PACKED {
            let packed = pack(&data());
            for at in [packed.len() / 2, packed.len() - 3] {
                let mut bad = packed.clone();
                bad[at] ^= 0x55;
                assert_eq!(refusal(&bad, how), format!("{} is corrupt", how.archive_name()));
            }
        }
    }

    #[test]
    fn names_bytes_after_the_end_and_another_format() {
        for (how, pack) in PACKED {
            let packed = [pack(&data()), b"<html>not here</html>".to_vec()].concat();
            assert!(refusal(&packed, how).ends_with("has other bytes after its end"));
            assert!(refusal(b"PK\x03\x04 something else entirely", how).contains("is not in the"));
        }
    }

    #[test]
    fn zeros_may_fill_the_last_block_and_nothing_else() {
        let data = data();
        for (how, pack) in PACKED {
            let after = |tail: &[u8]| [&pack(&data)[..], tail].concat();
            for zeros in [1, 2, 3, 4, 9, 10, 511, 10_239, 1 << 20] {
                assert_eq!(read(&after(&vec![0; zeros]), how).unwrap(), data, "{zeros}");
            }
            let (short, long) = (vec![0; 3], vec![0; 17 << 20]);
            let again = [&short[..], &pack(b"again")].concat();
            let tails: [&[u8]; 6] =
                [&long, b"\n", b"\0\0\0x", b"x\0\0", b"<html>not here</html>", &again];
            for tail in tails {
                let said = refusal(&after(tail), how);
                assert!(said.ends_with("has other bytes after its end"), "{said}");
            }
        }
    }

    #[test]
    fn works_however_the_bytes_arrive() {
        struct Drops<'a>(&'a [u8], bool);
        impl Read for Drops<'_> {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                self.1 = !self.1;
                match self.1 {
                    true => Err(ErrorKind::Interrupted.into()),
                    false => self.0.read(into),
                }
            }
        }
        let data = data();
        for (how, pack) in PACKED {
            let packed = [pack(&data), pack(b"more"), vec![0; 700]].concat();
            let compressed = BufReader::with_capacity(1, Drops(&packed, false));
            let mut out = Vec::new();
            inflate(compressed, how).unwrap().read_to_end(&mut out).unwrap();
            assert!(out == [&data[..], b"more"].concat());
        }
    }

    #[test]
    fn refuses_a_zstd_window_that_would_eat_the_memory() {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.long_distance_matching(true).unwrap();
        encoder.window_log(28).unwrap();
        encoder.write_all(&data()).unwrap();
        let packed = encoder.finish().unwrap();
        assert!(refusal(&packed, Compression::Zstd).contains("too much memory"));
    }

    #[test]
    fn a_source_failure_keeps_its_exit_code() {
        struct Gone;
        impl Read for Gone {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other(Error::source("S3 went away")))
            }
        }
        for how in Compression::ALL {
            let mut inflated = inflate(BufReader::new(Gone), how).unwrap();
            let failure = inflated.read(&mut [0; 64]).unwrap_err();
            assert_eq!(failure.downcast::<Error>().unwrap().exit(), Exit::Source);
        }
    }
}
