/// Model kws, compiled by lmc 0.1.0 for aarch64-unknown-linux-gnu (cortex-a53).
///
/// Code 9000 bytes, constants 90416, arena 32256, stack 288; 2656768 multiply-adds an inference.
#[allow(non_snake_case, non_camel_case_types, clippy::too_many_arguments)]
pub mod kws {
    const _: () = assert!(::lmc_runtime::abi::VERSION == 1, "lmc and lmc-runtime differ in version");

    unsafe extern "C" {
        static kws_model: ::lmc_runtime::abi::Model;
    }

    /// Bytes of scratch memory for one inference at a time.
    pub const ARENA_BYTES: usize = 32256;
    /// Bytes of stack that `run` needs at most.
    pub const STACK_BYTES: usize = 288;
    /// Scratch memory for one inference at a time.
    pub type Arena = ::lmc_runtime::Arena<ARENA_BYTES>;
    const _: () = assert!(Arena::ALIGN >= 64);

    /// The model, for code that takes any.
    pub fn model() -> ::lmc_runtime::Model<'static> {
        // SAFETY: lmc wrote the object; the version was compared above.
        unsafe { ::lmc_runtime::Model::from_raw(&kws_model) }.expect("compiled for this version")
    }

    /// Runs one inference.
    ///
    /// * `input_1`: input "input_1", f32[1,49,10,1]
    /// * `dense`: output "dense", f32[1,12]
    /// * `arena`: any arena that no other call uses now
    pub fn run(
        input_1: &[f32; 490],
        dense: &mut [f32; 12],
        arena: &mut Arena,
    ) -> ::core::result::Result<(), ::lmc_runtime::Error> {
        let inputs: [*const ::core::ffi::c_void; 1] = [input_1.as_ptr().cast()];
        let outputs: [*mut ::core::ffi::c_void; 1] = [dense.as_mut_ptr().cast()];
        let arena = arena.memory().as_mut_ptr().cast();
        // SAFETY: the types above have the sizes and alignments that the model states.
        let status = unsafe { (kws_model.run)(inputs.as_ptr(), outputs.as_ptr(), ::core::ptr::null_mut(), arena) };
        ::lmc_runtime::Error::check(status)
    }
}
