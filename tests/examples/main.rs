lmc_runtime::include_model!("kws");

static ARENA: lmc_runtime::StaticArena<{ kws::ARENA_BYTES }> = lmc_runtime::StaticArena::new();

fn main() {
    let arena = ARENA.take().expect("taken once");
    let features = [0.0; 490]; // 49 windows of 10 MFCC features: silence
    let mut scores = [0.0; 12];
    kws::run(&features, &mut scores, arena).expect("an inference");
    for score in scores {
        println!("{score:.3}");
    }
}
