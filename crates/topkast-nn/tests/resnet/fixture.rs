//! Against torchvision's networks: see fixtures/resnet.py.

use serde_json::Value;
use topkast_kernels::{Buffer, Isa, Matrix};
use topkast_nn::{BlockKind, DenseLinear, Gradients, Linear, ParameterMut, ResNet, ResNetShape, Stem};

const IMAGES: usize = 2;
const RATE: f32 = 1e-4;

/// The fixture's generator: numbers from -1 to 1.
fn draw(name: &str, count: usize) -> Vec<f32> {
    let seed = name.bytes().fold(0_u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into())) << 32;
    let number = |place: u64| {
        let mut z = seed.wrapping_add(place).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (1..=count as u64).map(number).collect()
}

/// The fixture's weights and gains.
fn drawn(name: &str, count: usize, fan_in: Option<usize>) -> Vec<f32> {
    let mut values = draw(name, count);
    let (scale, middle) = match fan_in {
        Some(fan_in) => ((6.0 / fan_in as f64).sqrt() as f32, 0.0),
        None => (0.25, if name.ends_with("weight") { 1.0 } else { 0.0 }),
    };
    values.iter_mut().for_each(|value| *value = scale * *value + middle);
    if name.ends_with("bn3.weight") {
        values.iter_mut().for_each(|value| *value *= 0.25);
    }
    values
}

fn network(shape: &ResNetShape) -> ResNet {
    let linears = shape.layers().into_iter().map(|(name, [outputs, inputs])| {
        let weight = drawn(&format!("{name}.weight"), outputs * inputs, Some(inputs));
        Linear::Dense(DenseLinear::new(Buffer::from(&weight[..]), Buffer::zeros(outputs)))
    });
    let mut network = ResNet::from_layers(shape, linears.collect());
    network.visit(&mut |name, parameter| {
        if let ParameterMut::Bias(vector) = parameter {
            let values = drawn(name, vector.values.len(), None);
            vector.values.copy_from_slice(&values);
        }
    });
    network
}

/// The fixture's images `[image, channel, y, x]`, as the network takes them.
fn images(shape: &ResNetShape) -> Matrix {
    let pixels = shape.size[0] * shape.size[1];
    let values = draw("x", IMAGES * shape.channels * pixels);
    let mut x = Matrix::zeros(shape.channels, pixels * IMAGES);
    for (at, value) in values.into_iter().enumerate() {
        let (image, channel, pixel) =
            (at / pixels / shape.channels, at / pixels % shape.channels, at % pixels);
        x.row_mut(channel)[pixel * IMAGES + image] = value;
    }
    x
}

/// What the fixture tells of a vector.
fn told(numbers: &[f32], name: &str) -> [f64; 3] {
    let against = draw(&format!("against {name}"), numbers.len());
    let pairs = numbers.iter().zip(against).map(|(&number, other)| [f64::from(number), f64::from(other)]);
    let sums = pairs.fold([0.0; 3], |sums, [number, other]| {
        [sums[0] + number * number, sums[1] + number, sums[2] + number * other]
    });
    [sums[0].sqrt(), sums[1], sums[2]]
}

/// That the three numbers differ by less than `tolerance` of the vector's norm.
fn check(got: [f64; 3], want: &Value, len: usize, tolerance: f64, place: &str) {
    let norm = want[0].as_f64().unwrap();
    // A sum of as many errors of either sign.
    let room = [1.0, (len as f64).sqrt(), (len as f64).sqrt()];
    for ((got, want), room) in got.into_iter().zip(want.as_array().unwrap()).zip(room) {
        let want = want.as_f64().unwrap();
        assert!(
            (got - want).abs() <= tolerance * room * norm + 1e-7,
            "{place}: {got} against {want}, of norm {norm}"
        );
    }
}

fn check_network(key: &str, block: BlockKind, stages: &[usize], isa: Isa) {
    let fixture: Value = serde_json::from_str(include_str!("../fixtures/resnet.json")).unwrap();
    let fixture = &fixture[key];
    let size = [0, 1].map(|side| fixture["size"][side].as_u64().unwrap() as usize);
    let shape = ResNetShape {
        channels: 3,
        size,
        classes: 10,
        stem: Stem::Large,
        block,
        stages: stages.to_vec(),
        width: 64,
        widen: 1,
        zero_last_norm: false,
    };
    let (mut network, x, targets) = (network(&shape), images(&shape), [3, 7]);
    let close = |got: f64, want: &Value, tolerance: f64, what: &str| {
        let want = want.as_f64().unwrap();
        assert!(
            (got - want).abs() <= tolerance * want.abs(),
            "{key} on {isa:?}, {what}: {got} against {want}"
        );
    };
    let loss = |network: &mut ResNet| {
        network.forward(isa, &x, true);
        network.loss(isa, &targets, 0.0, true).sum / targets.len() as f64
    };
    close(loss(&mut network), &fixture["losses"][0], 1e-5, "loss");
    network.backward(isa, &x, Gradients::All);
    let mut parameters = 0;
    network.visit(&mut |name, parameter| {
        let Some(trained) = parameter.trained() else { return };
        let (got, len) = (told(&trained.gradient, name), trained.values.len());
        let want = &fixture["gradients"][name];
        // A ReLU whose input is zero but for rounding may be open on one side alone: one of millions, which moves gradients by 1e-4.
        let tolerance = 1e-3 + 3.0 * want[3].as_f64().unwrap();
        check(got, want, len, tolerance, &format!("{key} on {isa:?}, {name}"));
        trained.values.iter_mut().zip(&*trained.gradient).for_each(|(value, slope)| *value -= RATE * slope);
        parameters += 1;
    });
    assert_eq!(parameters, fixture["gradients"].as_object().unwrap().len());
    close(loss(&mut network), &fixture["losses"][1], 1e-4, "loss after a step");
    network.visit(&mut |name, parameter| {
        let ParameterMut::Statistic(values) = parameter else { return };
        let place = format!("{key} on {isa:?}, {name}");
        check(told(values, name), &fixture["statistics"][name], values.len(), 1e-4, &place);
    });
    let logits = network.forward(isa, &x, false);
    let want = |class: usize, image: usize| fixture["logits"][image][class].as_f64().unwrap();
    let all = (0..10).flat_map(|class| (0..IMAGES).map(move |image| (class, image)));
    let largest = all.clone().map(|(class, image)| want(class, image).abs()).fold(0.0, f64::max);
    for (class, image) in all {
        let (got, want) = (f64::from(logits.get(class, image)), want(class, image));
        assert!(
            (got - want).abs() < 1e-3 * largest,
            "{key} on {isa:?}, logit {class} of {image}: {got} against {want}"
        );
    }
}

#[test]
fn resnet50_is_torchvisions() {
    check_network("resnet50", BlockKind::Bottleneck, &[3, 4, 6, 3], Isa::current().unwrap());
}

#[test]
fn resnet18_is_torchvisions() {
    Isa::available()
        .into_iter()
        .for_each(|isa| check_network("resnet18", BlockKind::Basic, &[2, 2, 2, 2], isa));
}
