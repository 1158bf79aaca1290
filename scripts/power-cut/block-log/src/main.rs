//! A disk that records what is written to it, in order: `block-log DIRECTORY IMAGE LOG`. In the directory it mounts two files: `disk`,
//! which holds what the image does, for a file system on a loop device; and `marks`, for whoever says what it has seen.
//!
//! An entry of the log: `W` (written to the disk), `F` (flushed) or `M` (said), then offset and length (8 bytes each, little-endian),
//! then the bytes.

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, MountOption,
    OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DISK: INodeNo = INodeNo(2);
const MARKS: INodeNo = INodeNo(3);
/// Nothing changes but by us.
const FOREVER: Duration = Duration::from_secs(3600);

struct BlockLog {
    image: File,
    bytes: u64,
    log: Mutex<File>,
}

impl BlockLog {
    fn attributes(&self, ino: INodeNo) -> FileAttr {
        let is_root = ino == INodeNo::ROOT;
        let size = if ino == DISK { self.bytes } else { 0 };
        let (kind, perm) = if is_root { (FileType::Directory, 0o700) } else { (FileType::RegularFile, 0o600) };
        let [atime, mtime, ctime, crtime] = [UNIX_EPOCH; 4];
        let (nlink, uid, gid, rdev, flags, blksize, blocks) = (1, 0, 0, 0, 0, 4096, size / 512);
        FileAttr { ino, size, blocks, atime, mtime, ctime, crtime, kind, perm, nlink, uid, gid, rdev, blksize, flags }
    }

    fn record(&self, kind: u8, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        let length = bytes.len() as u64;
        let head = [&[kind][..], &offset.to_le_bytes(), &length.to_le_bytes()].concat();
        let mut log = self.log.lock().map_err(|_| std::io::Error::other("the log is broken"))?;
        log.write_all(&[&head, bytes].concat())?;
        if kind == b'W' { self.image.write_all_at(bytes, offset) } else { Ok(()) }
    }
}

impl Filesystem for BlockLog {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name.to_str() {
            Some("disk") => reply.entry(&FOREVER, &self.attributes(DISK), Generation(0)),
            Some("marks") => reply.entry(&FOREVER, &self.attributes(MARKS), Generation(0)),
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attributes(ino));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply.attr(&FOREVER, &self.attributes(ino));
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // What is said is not to wait in a cache.
        let flags = if ino == MARKS { FopenFlags::FOPEN_DIRECT_IO } else { FopenFlags::empty() };
        reply.opened(FileHandle(0), flags);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let left = if ino == DISK { self.bytes.saturating_sub(offset) } else { 0 };
        let mut bytes = vec![0; left.min(size.into()) as usize];
        match self.image.read_exact_at(&mut bytes, offset) {
            Ok(()) => reply.data(&bytes),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.record(if ino == DISK { b'W' } else { b'M' }, offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(_) => reply.error(Errno::EIO),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.record(b'F', 0, &[]) {
            Ok(()) => reply.ok(),
            Err(_) => reply.error(Errno::EIO),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [directory, image, log] = &args[..] else { return Err("usage: block-log DIRECTORY IMAGE LOG".into()) };
    let image = File::options().read(true).write(true).open(image)?;
    let bytes = image.metadata()?.len();
    let disk = BlockLog { image, bytes, log: Mutex::new(File::create(log)?) };
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("block-log".to_owned())];
    Ok(fuser::mount(disk, directory, &config)?)
}
