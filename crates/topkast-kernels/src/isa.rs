//! Instruction sets: detected once, forceable, and the one place where a kernel is compiled for each.

use std::sync::OnceLock;
use thiserror::Error;

use crate::Bf16;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512, Avx512Bf16};
use crate::simd::{Portable, Simd};

/// An instruction set the running machine is known to have: values come only from [`Isa::available`],
/// [`Isa::current`] and [`Isa::portable`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Isa(Kind);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    Portable(Portable),
}

/// `TOPKAST_ISA` names an instruction set that is unknown or that this machine lacks.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("TOPKAST_ISA is `{asked}`, but this machine offers {offered}; unset it to choose the best")]
pub struct IsaError {
    asked: String,
    offered: String,
}

/// A computation written once over [`Simd`] and compiled for every instruction set by [`Isa::run`].
///
/// `run` and everything it calls on the hot path must be `#[inline(always)]`, or it is compiled without the
/// instruction set's features.
pub trait Kernel {
    /// What the computation returns.
    type Output;
    /// Computes, with the vectors of `simd`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

impl Isa {
    /// Every instruction set of this machine that there is a shell for, best first; portable is always last.
    pub fn available() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(Avx512::new().map(|simd| Self(Kind::Avx512(simd))));
            all.extend(Avx2::new().map(|simd| Self(Kind::Avx2(simd))));
        }
        all.push(Self::portable());
        all
    }

    /// The instruction set that needs nothing of the machine.
    pub fn portable() -> Self {
        Self(Kind::Portable(Portable))
    }

    /// The best available instruction set, or the one that the environment variable `TOPKAST_ISA` names
    /// (`avx512`, `avx2`, `portable`). Decided on the first call and the same ever after.
    ///
    /// # Errors
    /// If `TOPKAST_ISA` names one that is not available.
    pub fn current() -> Result<Self, IsaError> {
        static CURRENT: OnceLock<Result<Isa, IsaError>> = OnceLock::new();
        CURRENT.get_or_init(|| Self::choose(std::env::var_os("TOPKAST_ISA"))).clone()
    }

    fn choose(asked: Option<std::ffi::OsString>) -> Result<Self, IsaError> {
        let available = Self::available();
        let Some(asked) = asked.filter(|asked| !asked.is_empty()) else { return Ok(available[0]) };
        let asked = asked.to_string_lossy();
        available.iter().find(|isa| isa.name() == asked).copied().ok_or_else(|| IsaError {
            asked: asked.to_string(),
            offered: available.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", "),
        })
    }

    /// The name by which `TOPKAST_ISA` knows it.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "avx2",
            Kind::Portable(_) => "portable",
        }
    }

    /// The bf16 instructions that this instruction set has besides, if the machine has them: only AVX-512 has any.
    pub fn bf16(self) -> Option<Bf16> {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => Avx512Bf16::new().map(Bf16),
            _ => None,
        }
    }

    /// Floats in a vector, [`Simd::LANES`].
    pub(crate) fn lanes(self) -> usize {
        self.run(Lanes)
    }

    /// Vectors that fit the registers beside the operands, [`Simd::PANEL`].
    pub(crate) fn panel(self) -> usize {
        self.run(Registers)
    }

    /// Runs `kernel` compiled for this instruction set.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            // SAFETY: an `Avx512` exists only where detection found its features.
            // Gain: the kernel body is compiled for 512-bit vectors (several times the portable speed).
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(simd) => unsafe { run_avx512(simd, kernel) },
            // SAFETY: an `Avx2` exists only where detection found its features. Gain: as above, 256 bits.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(simd) => unsafe { run_avx2(simd, kernel) },
            Kind::Portable(simd) => kernel.run(simd),
        }
    }
}

struct Registers;

impl Kernel for Registers {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        S::PANEL
    }
}

struct Lanes;

impl Kernel for Lanes {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        S::LANES
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn run_avx512<K: Kernel>(simd: Avx512, kernel: K) -> K::Output {
    kernel.run(simd)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
    kernel.run(simd)
}

impl std::fmt::Debug for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_available_isa_can_be_chosen_by_name() {
        for isa in Isa::available() {
            assert_eq!(Isa::choose(Some(isa.name().into())).unwrap(), isa);
        }
        assert_eq!(Isa::choose(None).unwrap(), Isa::available()[0]);
        assert_eq!(Isa::choose(Some("".into())).unwrap(), Isa::available()[0]);
    }

    #[test]
    fn an_unknown_isa_is_an_error_that_lists_what_there_is() {
        let message = Isa::choose(Some("sse9".into())).unwrap_err().to_string();
        assert!(message.contains("sse9") && message.contains("portable"), "{message}");
    }
}
