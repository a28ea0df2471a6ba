//! Runs machine code on buffers between inaccessible pages.

use std::ffi::c_void;

unsafe extern "C" {
    fn mmap(at: *mut c_void, len: usize, protection: i32, flags: i32, file: i32, offset: i64) -> *mut c_void;
    fn mprotect(at: *mut c_void, len: usize, protection: i32) -> i32;
    fn munmap(at: *mut c_void, len: usize) -> i32;
}

const PAGE: usize = 4096;

/// Which end of its pages a buffer touches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Side {
    /// It begins at the first byte.
    Low,
    /// It ends at the last byte.
    High,
}

/// Pages with an inaccessible one on each side.
struct Pages {
    all: *mut u8,
    len: usize,
}

impl Pages {
    fn new(bytes: usize) -> Pages {
        let len = bytes.div_ceil(PAGE).max(1) * PAGE + 2 * PAGE;
        // SAFETY: fresh private anonymous memory (protection none, then read and write inside).
        unsafe {
            let all = mmap(std::ptr::null_mut(), len, 0, 0x22, -1, 0).cast::<u8>();
            assert!(all as isize != -1, "memory for a test");
            assert_eq!(mprotect(all.add(PAGE).cast(), len - 2 * PAGE, 3), 0);
            Pages { all, len }
        }
    }

    fn place(&self, bytes: usize, side: Side) -> *mut u8 {
        let offset = if side == Side::Low { PAGE } else { self.len - PAGE - bytes };
        // SAFETY: the offset lies inside the mapping.
        unsafe { self.all.add(offset) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `new`.
        unsafe { munmap(self.all.cast(), self.len) };
    }
}

/// Calls a kernel's code with the buffers; a wrong access ends the process.
pub fn run(code: &[u8], buffers: &mut [Vec<u8>], side: Side) -> i32 {
    let pages: Vec<Pages> = buffers.iter().map(|b| Pages::new(b.len())).collect();
    let places: Vec<*mut u8> =
        pages.iter().zip(buffers.iter()).map(|(p, b)| p.place(b.len(), side)).collect();
    let function = Function::new(code);
    // SAFETY: every place has room for its buffer; the code is a kernel with one pointer per buffer.
    unsafe {
        places.iter().zip(buffers.iter()).for_each(|(p, b)| p.copy_from_nonoverlapping(b.as_ptr(), b.len()));
        let result = function.call(&places);
        places.iter().zip(buffers).for_each(|(p, b)| b.as_mut_ptr().copy_from_nonoverlapping(*p, b.len()));
        result
    }
}

/// Executable code.
pub struct Function(memmap2::Mmap);

impl Function {
    /// Makes bytes executable.
    pub fn new(code: &[u8]) -> Function {
        let mut map = memmap2::MmapMut::map_anon(code.len()).expect("memory for code");
        map.copy_from_slice(code);
        Function(map.make_exec().expect("executable memory"))
    }

    /// Calls it.
    ///
    /// # Safety
    /// The code must be a kernel that takes these pointers.
    pub unsafe fn call(&self, pointers: &[*mut u8]) -> i32 {
        // SAFETY: the caller vouches for the code.
        let function: extern "sysv64" fn(*const *mut u8) -> i32 =
            unsafe { std::mem::transmute(self.0.as_ptr()) };
        function(pointers.as_ptr())
    }
}
