fn main() {
    let build = lmc::Build::new("models/kws_dscnn/model.onnx").name("kws");
    if let Err(error) = build.compile() {
        panic!("{error}");
    }
}
