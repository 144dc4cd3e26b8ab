//! Archives built byte by byte, so that they can contain what no ordinary tool writes.

use tar::{EntryType, Header};

/// A header and its content, padded.
pub fn entry(kind: u8, name: impl AsRef<[u8]>, content: &[u8]) -> Vec<u8> {
    with_header(kind, name, content, |_| {})
}

/// The same, with a change of the header before its checksum is computed.
pub fn with_header(
    kind: u8,
    name: impl AsRef<[u8]>,
    content: &[u8],
    change: impl FnOnce(&mut Header),
) -> Vec<u8> {
    let mut header = Header::new_gnu();
    let name = name.as_ref();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(EntryType::new(kind));
    header.as_old_mut().linkflag = [kind];
    header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
    header.set_size(content.len() as u64);
    header.set_mtime(1_700_000_000);
    change(&mut header);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A regular file.
pub fn file(name: impl AsRef<[u8]>, content: &[u8]) -> Vec<u8> {
    entry(b'0', name, content)
}

/// A directory.
pub fn directory(name: impl AsRef<[u8]>) -> Vec<u8> {
    entry(b'5', name, b"")
}

/// An empty entry of this kind with these permission bits.
pub fn with_mode(kind: u8, name: impl AsRef<[u8]>, mode: u32) -> Vec<u8> {
    with_header(kind, name, b"", |header| header.set_mode(mode))
}

/// A symbolic link.
pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Vec<u8> {
    link(b'2', name, target)
}

/// A hard link to an entry of the same archive.
pub fn hard_link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Vec<u8> {
    link(b'1', name, target)
}

/// A link of this kind: `1` is a hard link, `2` a symbolic one.
pub fn link(kind: u8, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Vec<u8> {
    let target = target.as_ref();
    with_header(kind, name, b"", |header| {
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
    })
}

/// A GNU long name (`L`) or link (`K`).
pub fn long(kind: u8, name: impl AsRef<[u8]>) -> Vec<u8> {
    entry(kind, "././@LongLink", &[name.as_ref(), b"\0"].concat())
}

/// A pax header (`x`, or `g` for all entries) with these records.
pub fn pax(kind: u8, records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut content = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length += 1;
        }
        content.extend_from_slice(format!("{length} {key}=").as_bytes());
        content.extend_from_slice(value);
        content.push(b'\n');
    }
    entry(kind, "PaxHeaders/x", &content)
}

/// The entries and the end-of-archive marker.
pub fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 1024]].concat()
}
