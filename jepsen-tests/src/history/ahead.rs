//! Lines of a file, while a thread reads and unpacks the next: two cores are faster than one.

use std::{
    io::{self, Read},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

/// Bytes read at a time: enough that neither calls nor handing over show.
const BLOCK_BYTES: usize = 1 << 20;

/// Blocks that may wait: the reader is never far ahead, so memory stays bounded.
const BLOCKS_AHEAD: usize = 4;

/// Why the lines ended before their end.
pub(super) enum Stopped<E> {
    /// Whoever took them refused one.
    Refused(E),
    /// They cannot be read. What came before was taken.
    Unreadable(io::Error),
}

/// Gives every line, with its line break if it has one. A line longer than a block comes in pieces.
pub(super) fn lines<E>(
    from: impl Read + Send,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), Stopped<E>> {
    let (sender, blocks) = sync_channel(BLOCKS_AHEAD);
    thread::scope(|scope| {
        scope.spawn(move || read(from, &sender));
        // Dropped before the scope ends, so that the reader stops when a line is refused.
        let blocks: Receiver<io::Result<Vec<u8>>> = blocks;
        for block in blocks {
            let block = block.map_err(Stopped::Unreadable)?;
            for line in block.split_inclusive(|&byte| byte == b'\n') {
                take(line).map_err(Stopped::Refused)?;
            }
        }
        Ok(())
    })
}

/// Sends whole lines, a block at a time, until the end, an error, or nobody wants more.
fn read(mut from: impl Read, blocks: &SyncSender<io::Result<Vec<u8>>>) {
    let mut rest: Vec<u8> = Vec::new();
    loop {
        let mut block = Vec::with_capacity(rest.len() + BLOCK_BYTES);
        block.append(&mut rest);
        let room = BLOCK_BYTES.saturating_sub(block.len()).max(1) as u64;
        let read = (&mut from).take(room).read_to_end(&mut block);
        let ended = matches!(read, Ok(bytes) if (bytes as u64) < room);
        let whole = block.iter().rposition(|&byte| byte == b'\n').map(|end| end + 1);
        match (&read, whole) {
            // The last line may have no line break, and one that fills a block is somebody else's to refuse.
            _ if ended => {}
            (Ok(_), Some(end)) => rest = block.split_off(end),
            (Ok(_), None) => {}
            // What broke off in the middle of a line is no line.
            (Err(_), end) => block.truncate(end.unwrap_or(0)),
        }
        if blocks.send(Ok(block)).is_err() {
            return;
        }
        if let Err(error) = read {
            // If nobody wants it, nobody misses it.
            let _ = blocks.send(Err(error));
            return;
        }
        if ended {
            return;
        }
    }
}
