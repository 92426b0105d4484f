fn main() {
    let data =
        manyhands_example_flights::Data::open(&manyhands_example_flights::Data::default_folder())
            .unwrap();
    let t = std::time::Instant::now();
    let r = manyhands_example_flights::alone(&data).unwrap();
    println!("{r}\n{:?}", t.elapsed());
}
