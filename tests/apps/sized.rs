//! The Rust twin of `sized.c`: which sizes the model takes, as its binding says.

include!(env!("SIZED_BINDING"));

static ARENA: lmc_runtime::StaticArena<{ sized::ARENA_BYTES }> = lmc_runtime::StaticArena::new();

fn main() {
    let arena = ARENA.take().expect("taken once");
    let x = [0.0f32; 3 * sized::LENGTH_MAX];
    let (mut y, mut columns) = ([0.0f32; 3 * sized::Y_DIM2_MAX], 0);
    let (mut ran, mut refused) = (0, 0);
    for n in 0..=sized::LENGTH_MAX + sized::LENGTH_STEP {
        let sizes = (sized::LENGTH_MIN..=sized::LENGTH_MAX).step_by(sized::LENGTH_STEP);
        let wanted = if sizes.clone().any(|size| size == n) { Ok(()) } else { Err(lmc_runtime::Error::Symbol) };
        assert_eq!(sized::run(&x, &mut y, n, &mut columns, arena), wanted, "{n}");
        ran += usize::from(wanted.is_ok());
        refused += usize::from(wanted.is_err());
    }
    println!("{} to {}: {ran} ran, {refused} refused", sized::LENGTH_MIN, sized::LENGTH_MAX);
}
