//! The allocator of the C library: what it can do beyond allocating.
//!
//! The one room with an `unsafe` word in it, a declaration of a function of glibc ([ADR 26](../../docs/adr/0026-memory-of-routes.md)).
//! Nothing else belongs here. Start at [`give_back`].

/// Gives memory that is free back to the system, wherever it lies between memory that is in use. True when some
/// was.
///
/// For after work that took much more than it left behind. Takes milliseconds for hundreds of megabytes, during
/// which whoever shares the part of the heap at hand waits. Elsewhere than with glibc it does nothing: other
/// allocators do this by themselves.
pub fn give_back() -> bool {
    system::trim()
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod system {
    use std::ffi::c_int;

    // SAFETY: the signature is that of `malloc.h` of glibc, whose manual calls the function safe in any thread; it
    // takes no pointer and touches free memory only, so that nothing can be wrong about calling it.
    #[allow(unsafe_code, reason = "the standard library does not declare it")]
    unsafe extern "C" {
        safe fn malloc_trim(pad: usize) -> c_int;
    }

    pub(super) fn trim() -> bool {
        malloc_trim(0) == 1
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod system {
    pub(super) fn trim() -> bool {
        false
    }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    /// Pages.
    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
        let pages = status.split(' ').nth(1).expect("the second number");
        pages.parse().expect("a number")
    }

    #[test]
    fn what_lies_below_something_in_use_goes_back() {
        // 64 MB in pieces, and one more above them: what is freed below it stays with the process.
        let pieces: Vec<Box<[u8]>> = (0..64 * 1024).map(|_| vec![1_u8; 1000].into()).collect();
        let above = vec![1_u8; 1000];
        drop(pieces);
        let before = resident();
        assert!(give_back());
        let after = resident();
        assert!(after < before / 2, "{before} pages, and then {after}");
        drop(above);
    }
}
