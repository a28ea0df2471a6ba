//! The Rust twin of `several.c`.

include!(env!("KWS_BINDING"));
include!(env!("KWS_FAST_BINDING"));

fn main() {
    let (input, mut scores) = ([0.0; 490], [0.0; 12]);
    let fast = kws_fast::model().check_processor();
    let (name, result) = match fast {
        Ok(()) => (kws_fast::model().name(), kws_fast::run(&input, &mut scores, &mut kws_fast::Arena::new())),
        Err(_) => (kws::model().name(), kws::run(&input, &mut scores, &mut kws::Arena::new())),
    };
    result.expect("an inference");
    println!("{name} runs here");
}
