//! The Rust twin of `app.c`: runs the model `kws` through its generated binding.

include!(env!("KWS_BINDING"));

static ARENA: lmc_runtime::StaticArena<{ kws::ARENA_BYTES }> = lmc_runtime::StaticArena::new();

fn floats<const N: usize>(bytes: &[u8]) -> [f32; N] {
    assert_eq!(bytes.len(), 4 * N);
    std::array::from_fn(|i| f32::from_le_bytes(bytes[4 * i..][..4].try_into().unwrap()))
}

fn main() {
    let arena = ARENA.take().expect("taken once");
    let input = floats::<490>(include_bytes!(env!("KWS_INPUT")));
    let expected = floats::<12>(include_bytes!(env!("KWS_EXPECTED")));
    let mut scores = [0.0f32; 12];
    kws::run(&input, &mut scores, arena).expect("an inference");
    assert!(scores.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4), "{scores:?}");
    let model = kws::model();
    println!("{}: {} input, the result is as expected", model.name(), model.inputs().len());
}
