//! libchdb's C interface (its header `chdb.h`, 26.7) behind types that own their handles.
//!
//! All unsafe calls of the library are in this file.
#![allow(unsafe_code)]

use crate::exception::{Exception, code};
use libloading::Library;
use std::ffi::{CStr, CString, c_char, c_double, c_int, c_void};
use std::marker::PhantomData;
use std::path::Path;
use std::ptr::NonNull;
use std::slice;

/// `chdb_state`: 0 is success.
type State = c_int;
/// `struct chdb_connection_ { void *internal_data; }`; a `chdb_connection` points to one.
type RawConnection = c_void;
type RawResult = c_void;
type RawInsert = c_void;
/// The signature of all calls with a statement: connection, statement, format, the names and values of
/// the parameters with their lengths, and the number of parameters.
type Start = unsafe extern "C" fn(
    *mut RawConnection,
    *const c_char,
    usize,
    *const c_char,
    usize,
    *const *const c_char,
    *const usize,
    *const *const c_char,
    *const usize,
    usize,
) -> *mut c_void;

/// A call that reads one number of a result.
type Getter<T> = unsafe extern "C" fn(*mut RawResult) -> T;

/// Declares [`Api`] and its loader from one list of names and signatures.
macro_rules! api {
    ($($field:ident = $symbol:literal $signature:ty;)*) => {
        /// The functions of libchdb that this server calls.
        struct Api {
            $($field: $signature,)*
        }

        impl Api {
            /// Finds the functions. The library stays loaded until the process ends, because its
            /// threads and exit handlers need its code.
            fn load(path: &Path) -> Result<&'static Self, libloading::Error> {
                // SAFETY: loading runs the initialisers of the library. Those of libchdb have no
                // preconditions and support dlopen.
                let library = Box::leak(Box::new(unsafe { Library::new(path)? }));
                Ok(Box::leak(Box::new(Self {
                    // SAFETY: the signatures are the stable ones of chdb.h.
                    $($field: *unsafe { library.get($symbol)? },)*
                })))
            }
        }
    };
}

api! {
    set_signal_handlers_enabled =
        c"chdb_set_signal_handlers_enabled" unsafe extern "C" fn(c_int);
    connect = c"chdb_connect"
        unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut *mut RawConnection;
    close_conn = c"chdb_close_conn" unsafe extern "C" fn(*mut *mut RawConnection);
    shutdown = c"chdb_shutdown" unsafe extern "C" fn() -> State;
    query = c"chdb_query_with_params_n" Start;
    stream_query = c"chdb_stream_query_with_params_n" Start;
    stream_fetch = c"chdb_stream_fetch_result"
        unsafe extern "C" fn(*mut RawConnection, *mut RawResult) -> *mut RawResult;
    stream_cancel = c"chdb_stream_cancel_query"
        unsafe extern "C" fn(*mut RawConnection, *mut RawResult);
    insert = c"chdb_stream_insert_with_params_n" Start;
    insert_append = c"chdb_stream_append"
        unsafe extern "C" fn(*mut RawInsert, *const c_void, usize) -> State;
    insert_done = c"chdb_stream_done" unsafe extern "C" fn(*mut RawInsert) -> *mut RawResult;
    insert_error =
        c"chdb_stream_insert_error" unsafe extern "C" fn(*mut RawInsert) -> *const c_char;
    insert_destroy = c"chdb_destroy_insert_stream" unsafe extern "C" fn(*mut RawInsert);
    result_buffer = c"chdb_result_buffer" unsafe extern "C" fn(*mut RawResult) -> *mut c_char;
    result_length = c"chdb_result_length" Getter<usize>;
    result_error = c"chdb_result_error" unsafe extern "C" fn(*mut RawResult) -> *const c_char;
    result_elapsed = c"chdb_result_elapsed" Getter<c_double>;
    result_rows = c"chdb_result_rows_read" Getter<u64>;
    result_storage_rows = c"chdb_result_storage_rows_read" Getter<u64>;
    result_storage_bytes = c"chdb_result_storage_bytes_read" Getter<u64>;
    result_rows_written = c"chdb_result_rows_written" Getter<u64>;
    result_bytes_written = c"chdb_result_bytes_written" Getter<u64>;
    result_destroy = c"chdb_destroy_query_result" unsafe extern "C" fn(*mut RawResult);
}

/// Named query parameters (`{name:Type}` in the statement), in the order of the request.
pub(crate) type Parameters = [(String, String)];

/// The numbers of `X-ClickHouse-Summary`.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Stats {
    /// Wall-clock time in seconds.
    pub elapsed: f64,
    pub read_rows: u64,
    pub read_bytes: u64,
    /// Includes the rows of dependent materialized views.
    pub written_rows: u64,
    pub written_bytes: u64,
    pub result_rows: u64,
    pub result_bytes: u64,
}

impl Stats {
    /// Adds the numbers of another chunk of the same answer.
    pub fn add(&mut self, chunk: Stats) {
        self.elapsed += chunk.elapsed;
        self.read_rows += chunk.read_rows;
        self.read_bytes += chunk.read_bytes;
        self.written_rows += chunk.written_rows;
        self.written_bytes += chunk.written_bytes;
        self.result_rows += chunk.result_rows;
        self.result_bytes += chunk.result_bytes;
    }
}

/// The loaded engine.
#[derive(Clone, Copy)]
pub(crate) struct Engine {
    api: &'static Api,
}

impl Engine {
    /// Loads the shared library. The engine starts with the first connection.
    pub fn load(path: &Path) -> Result<Self, libloading::Error> {
        let api = Api::load(path)?;
        // SAFETY: takes any int. Without this call before the first connection, the engine would
        // install its own signal handlers.
        unsafe { (api.set_signal_handlers_enabled)(0) };
        Ok(Self { api })
    }

    /// Opens a connection. This takes 0.1 ms once the engine runs, so each request has its own.
    ///
    /// `arguments` are `--name=value`: server settings, which only the first connection uses, and
    /// query settings of this connection. Returns `None` if the engine refuses them; it does not return
    /// a reason.
    pub fn connect(self, arguments: &[CString]) -> Option<Connection> {
        let mut argv: Vec<*mut c_char> = vec![c"chdb".as_ptr().cast_mut()];
        argv.extend(arguments.iter().map(|argument| argument.as_ptr().cast_mut()));
        let count = c_int::try_from(argv.len()).ok()?;
        // SAFETY: argv has `count` NUL-terminated strings that outlive the call. The engine copies
        // them and does not write to them.
        let handle = NonNull::new(unsafe { (self.api.connect)(count, argv.as_mut_ptr()) })?;
        Some(Connection { api: self.api, handle })
    }

    /// Stops the threads of the engine. Returns false if it cannot, for example because a connection is
    /// open.
    pub fn shutdown(self) -> bool {
        // SAFETY: may be called at any time from any thread.
        unsafe { (self.api.shutdown)() == 0 }
    }
}

/// A session of the engine. It runs one statement at a time, which `&mut` ensures.
pub(crate) struct Connection {
    api: &'static Api,
    handle: NonNull<*mut RawConnection>,
}

// SAFETY: any thread may use a session, as long as calls do not overlap.
unsafe impl Send for Connection {}

impl Connection {
    fn raw(&self) -> *mut RawConnection {
        // SAFETY: the result of chdb_connect points to the connection until chdb_close_conn.
        unsafe { *self.handle.as_ptr() }
    }

    /// Runs a statement to its end and returns the whole answer.
    pub fn query(
        &mut self,
        sql: &[u8],
        format: &str,
        parameters: &Parameters,
    ) -> Result<Output, Exception> {
        let handle = self.start(self.api.query, sql, format, parameters);
        Output::checked(self.api, handle)
    }

    /// Starts a `SELECT` whose answer is fetched chunk by chunk.
    pub fn stream(
        &mut self,
        sql: &[u8],
        format: &str,
        parameters: &Parameters,
    ) -> Result<Stream<'_>, Exception> {
        let handle = self.start(self.api.stream_query, sql, format, parameters);
        let result = Output::checked(self.api, handle)?;
        Ok(Stream { connection: self, result, ended: false })
    }

    /// Starts an `INSERT` whose data is appended in chunks. `sql` ends before its `FORMAT` or `VALUES`.
    pub fn insert(
        &mut self,
        sql: &[u8],
        format: &str,
        parameters: &Parameters,
    ) -> Result<Insert<'_>, Exception> {
        let handle = self.start(self.api.insert, sql, format, parameters);
        let Some(handle) = NonNull::new(handle) else {
            return Err(Exception::new(
                code::STD_EXCEPTION,
                "the engine returned no insert stream",
            ));
        };
        let insert = Insert { api: self.api, handle, connection: PhantomData };
        // SAFETY: the handle is live.
        match unsafe { text((self.api.insert_error)(handle.as_ptr())) } {
            Some(error) => Err(Exception::from_engine(&error)),
            None => Ok(insert),
        }
    }

    fn start(
        &mut self,
        function: Start,
        sql: &[u8],
        format: &str,
        parameters: &Parameters,
    ) -> *mut c_void {
        let mut names = Texts::default();
        let mut values = Texts::default();
        for (name, value) in parameters {
            names.push(name);
            values.push(value);
        }
        // SAFETY: the connection is open. Every pointer has its length, and its target outlives the
        // call. The engine copies the texts.
        unsafe {
            function(
                self.raw(),
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                names.pointers.as_ptr(),
                names.lengths.as_ptr(),
                values.pointers.as_ptr(),
                values.lengths.as_ptr(),
                parameters.len(),
            )
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: closed once, and no stream or insert borrows the connection any more.
        unsafe { (self.api.close_conn)(self.handle.as_ptr()) };
    }
}

/// A result buffer of the engine.
pub(crate) struct Output {
    api: &'static Api,
    handle: NonNull<RawResult>,
}

// SAFETY: a finished result is plain memory that only its owner accesses.
unsafe impl Send for Output {}
// SAFETY: the accessors only read.
unsafe impl Sync for Output {}

impl Output {
    /// Takes ownership of a result, and returns the error in it as `Err`.
    fn checked(api: &'static Api, handle: *mut RawResult) -> Result<Self, Exception> {
        let Some(handle) = NonNull::new(handle) else {
            return Err(Exception::new(code::STD_EXCEPTION, "the engine returned no result"));
        };
        let output = Self { api, handle };
        // SAFETY: the handle is live.
        match unsafe { text((api.result_error)(handle.as_ptr())) } {
            Some(error) => Err(Exception::from_engine(&error)),
            None => Ok(output),
        }
    }

    /// Returns the numbers of this result; in a stream, of this chunk.
    pub fn stats(&self) -> Stats {
        let handle = self.handle.as_ptr();
        // SAFETY: the handle is live, and the calls only read.
        unsafe {
            Stats {
                elapsed: (self.api.result_elapsed)(handle),
                read_rows: (self.api.result_storage_rows)(handle),
                read_bytes: (self.api.result_storage_bytes)(handle),
                written_rows: (self.api.result_rows_written)(handle),
                written_bytes: (self.api.result_bytes_written)(handle),
                result_rows: (self.api.result_rows)(handle),
                result_bytes: self.as_ref().len() as u64,
            }
        }
    }
}

impl AsRef<[u8]> for Output {
    fn as_ref(&self) -> &[u8] {
        let handle = self.handle.as_ptr();
        // SAFETY: the buffer has this length and lives as long as the result.
        unsafe {
            let buffer = (self.api.result_buffer)(handle);
            let length = (self.api.result_length)(handle);
            if buffer.is_null() { &[] } else { slice::from_raw_parts(buffer.cast(), length) }
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // SAFETY: destroyed once.
        unsafe { (self.api.result_destroy)(self.handle.as_ptr()) };
    }
}

/// A running `SELECT`.
pub(crate) struct Stream<'connection> {
    connection: &'connection mut Connection,
    result: Output,
    ended: bool,
}

impl Stream<'_> {
    /// Returns the next chunk of the answer, or `None` at the end. Each chunk is formatted like a whole
    /// answer.
    pub fn next(&mut self) -> Result<Option<Output>, Exception> {
        let api = self.connection.api;
        // SAFETY: connection and stream are live, and calls do not overlap.
        let chunk =
            unsafe { (api.stream_fetch)(self.connection.raw(), self.result.handle.as_ptr()) };
        let chunk = Output::checked(api, chunk).inspect_err(|_| self.ended = true)?;
        self.ended = chunk.as_ref().is_empty();
        Ok((!self.ended).then_some(chunk))
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let api = self.connection.api;
            // SAFETY: as in `next`. `Output` destroys the result.
            unsafe { (api.stream_cancel)(self.connection.raw(), self.result.handle.as_ptr()) };
        }
    }
}

/// A running `INSERT`. Dropping it before [`Insert::finish`] cancels it.
pub(crate) struct Insert<'connection> {
    api: &'static Api,
    handle: NonNull<RawInsert>,
    connection: PhantomData<&'connection mut Connection>,
}

/// The engine accepts no more data. [`Insert::finish`] returns the reason.
pub(crate) struct Rejected;

impl Insert<'_> {
    /// Sends a chunk of data, which may end inside a row. Blocks while the engine is busy.
    pub fn append(&mut self, data: &[u8]) -> Result<(), Rejected> {
        // SAFETY: the handle is live; the engine copies the data.
        let state = unsafe {
            (self.api.insert_append)(self.handle.as_ptr(), data.as_ptr().cast(), data.len())
        };
        if state == 0 { Ok(()) } else { Err(Rejected) }
    }

    /// Ends the data and waits until the rows are in the table.
    pub fn finish(self) -> Result<Stats, Exception> {
        // SAFETY: the handle is live, and `self` is consumed, so this is called once.
        let result = unsafe { (self.api.insert_done)(self.handle.as_ptr()) };
        Output::checked(self.api, result).map(|output| output.stats())
    }
}

impl Drop for Insert<'_> {
    fn drop(&mut self) {
        // SAFETY: destroyed once. The call cancels an unfinished insert.
        unsafe { (self.api.insert_destroy)(self.handle.as_ptr()) };
    }
}

/// A list of strings for the C interface: pointers and lengths.
#[derive(Default)]
struct Texts<'text> {
    pointers: Vec<*const c_char>,
    lengths: Vec<usize>,
    texts: PhantomData<&'text str>,
}

impl<'text> Texts<'text> {
    fn push(&mut self, text: &'text str) {
        self.pointers.push(text.as_ptr().cast());
        self.lengths.push(text.len());
    }
}

/// Copies a C string. Returns `None` for a null pointer.
///
/// # Safety
/// `pointer` is null or points to a NUL-terminated string.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the caller guarantees it.
    Some(unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
}
