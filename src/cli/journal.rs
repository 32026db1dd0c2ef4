//! Reads systemd's journal, through systemd's own library (sd-journal(3)): the format is its business alone.
//!
//! The library is loaded when a journal is read and at no other time. The same program also runs inside containers, where
//! nobody reads a journal and the library need not be.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    ptr,
    time::Duration,
};

use anyhow::{Context, ensure};
use libloading::Library;

/// Where it is looked for: as the loader finds it, and where NixOS has it.
const PLACES: [&str; 2] = ["libsystemd.so.0", "/run/current-system/sw/lib/libsystemd.so.0"];
/// Only this machine's own journal (`SD_JOURNAL_LOCAL_ONLY`).
const LOCAL_ONLY: c_int = 1;

type Handle = *mut c_void;

/// The functions used, by their names in the library.
struct Functions {
    add_match: unsafe extern "C" fn(Handle, *const c_void, usize) -> c_int,
    add_disjunction: unsafe extern "C" fn(Handle) -> c_int,
    seek_realtime_usec: unsafe extern "C" fn(Handle, u64) -> c_int,
    next: unsafe extern "C" fn(Handle) -> c_int,
    get_realtime_usec: unsafe extern "C" fn(Handle, *mut u64) -> c_int,
    get_data: unsafe extern "C" fn(Handle, *const c_char, *mut *const c_void, *mut usize) -> c_int,
    wait: unsafe extern "C" fn(Handle, u64) -> c_int,
    close: unsafe extern "C" fn(Handle),
}

/// The journal of this host.
pub(super) struct Journal {
    handle: Handle,
    functions: Functions,
    /// Kept for as long as its functions are.
    _library: Library,
}

/// A line of it.
pub(super) struct Line {
    /// When it was written, in microseconds since the Unix epoch.
    pub at_us: u64,
    /// Who wrote it.
    pub by: String,
    /// What.
    pub message: String,
}

impl Journal {
    /// Opens what this user may read: for anything of the system's, as root or in the group `systemd-journal`.
    pub fn open() -> anyhow::Result<Self> {
        // SAFETY: systemd's library runs no code of note when it is loaded, and each symbol has the type that
        // sd-journal(3) gives it; the library is kept in the value that holds the functions.
        unsafe {
            let library = PLACES.iter().find_map(|place| Library::new(*place).ok());
            let library =
                library.context("systemd's library is not there. Remedy: install libsystemd (libsystemd0)")?;
            let open: unsafe extern "C" fn(*mut Handle, c_int) -> c_int = *library.get(b"sd_journal_open\0")?;
            let functions = Functions {
                add_match: *library.get(b"sd_journal_add_match\0")?,
                add_disjunction: *library.get(b"sd_journal_add_disjunction\0")?,
                seek_realtime_usec: *library.get(b"sd_journal_seek_realtime_usec\0")?,
                next: *library.get(b"sd_journal_next\0")?,
                get_realtime_usec: *library.get(b"sd_journal_get_realtime_usec\0")?,
                get_data: *library.get(b"sd_journal_get_data\0")?,
                wait: *library.get(b"sd_journal_wait\0")?,
                close: *library.get(b"sd_journal_close\0")?,
            };
            let mut handle = ptr::null_mut();
            check(open(&mut handle, LOCAL_ONLY)).context("the journal cannot be opened")?;
            Ok(Self { handle, functions, _library: library })
        }
    }

    /// Only lines in which one of these fields has its value (`FIELD=value`).
    pub fn only(&mut self, any_of: &[String]) -> anyhow::Result<()> {
        for field in any_of {
            // SAFETY: the handle is open; the bytes are read during the call alone.
            unsafe {
                check((self.functions.add_match)(self.handle, field.as_ptr().cast(), field.len()))?;
                check((self.functions.add_disjunction)(self.handle))?;
            }
        }
        Ok(())
    }

    /// The next line is the first at this time or after.
    pub fn seek(&mut self, at_us: u64) -> anyhow::Result<()> {
        // SAFETY: the handle is open.
        check(unsafe { (self.functions.seek_realtime_usec)(self.handle, at_us) }).map(drop)
    }

    /// The next line; none = that was the last for now.
    pub fn line(&mut self) -> anyhow::Result<Option<Line>> {
        // SAFETY: the handle is open; `at_us` outlives the call.
        let (moved, at_us) = unsafe {
            let moved = check((self.functions.next)(self.handle))?;
            let mut at_us = 0;
            if moved > 0 {
                check((self.functions.get_realtime_usec)(self.handle, &mut at_us))?;
            }
            (moved, at_us)
        };
        if moved == 0 {
            return Ok(None);
        }
        let by = self.field(c"SYSLOG_IDENTIFIER").or_else(|| self.field(c"_COMM")).unwrap_or_default();
        Ok(Some(Line { at_us, by, message: self.field(c"MESSAGE").unwrap_or_default() }))
    }

    fn field(&mut self, name: &CStr) -> Option<String> {
        let (mut data, mut length) = (ptr::null(), 0);
        // SAFETY: the handle is open and stands on a line. What is given back is valid until the next call, and is
        // copied before that.
        let bytes = unsafe {
            if (self.functions.get_data)(self.handle, name.as_ptr(), &mut data, &mut length) < 0 || data.is_null() {
                return None;
            }
            std::slice::from_raw_parts(data.cast::<u8>(), length)
        };
        let value = bytes.get(name.count_bytes() + 1..)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// Waits until there may be more, for so long at most.
    pub fn wait(&mut self, most: Duration) -> anyhow::Result<()> {
        // SAFETY: the handle is open.
        check(unsafe { (self.functions.wait)(self.handle, u64::try_from(most.as_micros()).unwrap_or(u64::MAX)) })
            .map(drop)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // SAFETY: opened once, closed once, and used by nobody after.
        unsafe { (self.functions.close)(self.handle) }
    }
}

/// Its functions give a negative error number for a failure.
fn check(result: c_int) -> anyhow::Result<c_int> {
    ensure!(result >= 0, "the journal: {}", std::io::Error::from_raw_os_error(-result));
    Ok(result)
}
