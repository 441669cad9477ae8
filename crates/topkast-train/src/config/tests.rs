use topkast::Counts;

use super::*;

fn load(overrides: &[&str]) -> Result<Config, String> {
    let overrides: Vec<String> = overrides.iter().map(|&argument| argument.to_owned()).collect();
    Config::load(None, &overrides).map_err(|error| error.to_string())
}

fn refused(overrides: &[&str], parts: &[&str]) {
    let message = load(overrides).expect_err("must be refused");
    for part in parts {
        assert!(message.contains(part), "`{message}` does not mention `{part}`");
    }
    assert!(!message.contains('\n'), "`{message}` is more than one line");
}

#[test]
fn the_built_in_recipe_is_valid_and_survives_its_own_text() {
    let config = load(&[]).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(Config::from_text(&config.to_text(), "test").unwrap(), config);
}

#[test]
fn overrides_reach_every_kind_of_value() {
    let config = load(&[
        "seed=7",
        "sparsity.method=static",
        "sparsity.forward=0.98",
        "model.hidden=[64, 32]",
        "optimizer.nesterov=true",
        "data.path=\"else where\"",
    ])
    .unwrap();
    assert_eq!((config.seed, config.sparsity.method), (7, Method::Static));
    let ModelConfig::Mlp(model) = config.model else { panic!("{:?}", config.model) };
    assert_eq!(model.hidden, [64, 32]);
    assert!(config.optimizer.nesterov);
    assert_eq!(config.data.path, "else where");
}

#[test]
fn a_wrong_override_names_itself_and_what_is_allowed() {
    refused(&["sparsity.fordward=0.9"], &["--set sparsity.fordward=0.9", "fordward", "forward"]);
    refused(&["sparsity.method=rigl2"], &["rigl2", "top-kast", "static", "set", "rigl"]);
    refused(&["seed"], &["key.path=value"]);
    refused(&["=3"], &["key.path=value"]);
    refused(&["seed.x=3"], &["seed"]);
    refused(&["seed=-1"], &["seed=-1"]);
}

#[test]
fn bf16_is_refused_where_the_instructions_are_missing() {
    use topkast_kernels::Isa;
    assert_eq!(load(&[]).unwrap().train.bf16(Isa::portable()).unwrap(), None);
    let asked = load(&["train.weight_gradient=bf16"]).unwrap();
    let message = asked.train.bf16(Isa::portable()).unwrap_err().to_string();
    for part in ["train.weight_gradient = bf16", "AVX512-BF16", "portable", "use f32"] {
        assert!(message.contains(part) && !message.contains('\n'), "{message}");
    }
    for isa in Isa::available() {
        assert_eq!(asked.train.bf16(isa).ok().flatten(), isa.bf16());
    }
    refused(&["train.weight_gradient=f16"], &["weight_gradient=f16", "f32", "bf16"]);
}

#[test]
fn impossible_values_are_refused() {
    refused(&["sparsity.forward=0.5"], &["backward sparsity 0.8", "forward sparsity 0.5"]);
    refused(&["sparsity.forward=1.0"], &["forward sparsity 1"]);
    refused(&["optimizer.lr=nan"], &["optimizer.lr = NaN", "finite"]);
    refused(&["optimizer.lr=1e300"], &["optimizer.lr"]);
    refused(&["optimizer.penalty=-1.0"], &["optimizer.penalty = -1"]);
    refused(&["optimizer.momentum=1.0"], &["optimizer.momentum"]);
    refused(&["optimizer.momentum=0.0", "optimizer.nesterov=true"], &["nesterov"]);
    refused(&["optimizer.milestones=[0.7, 0.2]"], &["milestones"]);
    refused(&["optimizer.epsilon=0.0"], &["epsilon"]);
    refused(&["train.batch=0"], &["train.batch = 0"]);
    refused(&["train.epochs=0"], &["train.epochs"]);
    refused(&["train.log_every=0"], &["log_every"]);
    refused(&["model.hidden=[0]"], &["model.hidden = 0"]);
    refused(&["model.dropout=1.0"], &["model.dropout"]);
    refused(&["sparsity.refresh_every=0"], &["refresh_every"]);
    refused(&["sparsity.explore_until=1.5"], &["explore_until"]);
    refused(&["sparsity.drop_fraction=1.1"], &["sparsity.drop_fraction = 1.1", "from 0 to 1"]);
    refused(&["sparsity.update_until=-0.5"], &["sparsity.update_until = -0.5", "from 0 to 1"]);
    refused(&["data.validation=1.0"], &["data.validation"]);
    refused(&["data.kind=cifar"], &["cifar", "`cifar10`", "`image-folder`"]);
    refused(&["data.augment=flip"], &["data.augment=flip", "crop-flip"]);
    refused(&["data.size=5000"], &["data.size = 5000", "4096"]);
    refused(&["data.broken_limit=-1"], &["broken_limit"]);
}

#[test]
fn given_weights_need_a_reservoir_that_holds_them() {
    let given = |reservoir, method| {
        load(&[
            "model.weights=w.safetensors",
            &format!("sparsity.reservoir={reservoir}"),
            &format!("sparsity.method={method}"),
        ])
    };
    let message = given("implicit", "top-kast").unwrap_err();
    for part in ["sparsity.reservoir = implicit", "model.weights", "dense", "mmap"] {
        assert!(message.contains(part) && !message.contains('\n'), "{message}");
    }
    for (reservoir, method) in
        [("dense", "top-kast"), ("mmap", "top-kast"), ("implicit", "static"), ("implicit", "dense")]
    {
        assert_eq!(given(reservoir, method).unwrap().model.weights(), "w.safetensors");
    }
    refused(&["sparsity.reservoir=mmap"], &["sparsity.reservoir = mmap", "model.weights"]);
    refused(&["sparsity.reservoir=disk"], &["reservoir=disk", "implicit", "dense", "mmap"]);
}

#[test]
fn static_and_unexplored_layers_need_no_backward_sparsity() {
    load(&["sparsity.method=set", "sparsity.forward=0.5"]).unwrap();
    load(&["sparsity.method=rigl", "sparsity.forward=0.5"]).unwrap();
    load(&["sparsity.method=static", "sparsity.forward=0.5"]).unwrap();
    load(&["sparsity.explore=none", "sparsity.forward=0.5"]).unwrap();
}

#[test]
fn a_file_error_names_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.toml");
    std::fs::write(&path, "seed = 1\n[train]\nbatches = 5\n").unwrap();
    let message = Config::load(Some(&path), &[]).unwrap_err().to_string();
    assert!(message.contains("run.toml: line 3") && message.contains("batches"), "{message}");
    let missing = Config::load(Some(&dir.path().join("none.toml")), &[]).unwrap_err().to_string();
    assert!(missing.contains("none.toml"), "{missing}");
}

#[test]
fn pruning_leaves_no_choice_of_products() {
    load(&["sparsity.method=pruning", "sparsity.backward=0.95"]).unwrap();
    refused(
        &["sparsity.method=pruning", "sparsity.products=auto"],
        &["sparsity.products = auto", "pruning", "use sparse"],
    );
    // It is dense at first: more weights than fit in a structure's index.
    let config = load(&["sparsity.method=pruning", "model.hidden=[100000, 100000]"]).unwrap();
    let message = config.network([10, 1, 1], 10).map(drop).unwrap_err().to_string();
    assert!(message.contains("all active at first") && !message.contains('\n'), "{message}");
}

#[test]
fn layers_get_what_their_names_ask_for() {
    let config = load(&[
        "model.hidden=[20, 10]",
        "sparsity.layers=[{pattern=\"hidden.1\", forward=0.5, backward=0.25}]",
    ])
    .unwrap();
    let plans = config.plans(&config.shape([30, 1, 1], 10)).unwrap();
    let counts = |plan: &topkast_nn::LayerPlan| match plan {
        topkast_nn::LayerPlan::Sparse { counts, .. } => Some((counts.active, counts.backward)),
        topkast_nn::LayerPlan::Dense { .. } => None,
    };
    assert_eq!(plans.iter().map(counts).collect::<Vec<_>>(), [Some((60, 120)), Some((100, 150)), None]);
}

#[test]
fn a_layer_without_entries_and_a_pattern_without_layer_are_refused() {
    let plans = |overrides: &[&str]| {
        let config = load(overrides).unwrap();
        config.plans(&config.shape([10, 1, 1], 10)).unwrap_err().to_string()
    };
    let message = plans(&["model.hidden=[3]", "sparsity.forward=0.99"]);
    assert!(message.contains("hidden.0") && message.contains("no active entry"), "{message}");
    let message = plans(&["sparsity.keep_dense=[\"conv*\"]"]);
    assert!(message.contains("conv*") && message.contains("hidden.0"), "{message}");
}

#[test]
fn layers_chosen_for_together_have_exact_totals() {
    let totals = |overrides: &[&str]| {
        let mut all = vec!["model.hidden=[20, 10]", "sparsity.distribution=global"];
        all.extend(overrides);
        let config = load(&all).unwrap();
        let counts = config.global_counts(&config.shape([30, 1, 1], 10)).unwrap();
        let mut made = Counts { active: 0, backward: 0 };
        for weight in config.network([30, 1, 1], 10).unwrap().sparse_weights() {
            made.active += weight.counts().active;
            made.backward += weight.counts().backward;
        }
        (counts, made)
    };
    let exact = |active, backward| {
        let counts = Counts { active, backward };
        (Some(counts), counts)
    };
    assert_eq!(totals(&["sparsity.forward=0.99"]), exact(8, 160));
    assert_eq!(totals(&["sparsity.keep_dense=[]"]), exact(90, 180));
    assert_eq!(totals(&["sparsity.explore=none"]), exact(80, 80));
    assert_eq!(totals(&["sparsity.explore=random"]), exact(80, 160));
    assert_eq!(totals(&["sparsity.method=static", "sparsity.init_scale=active"]), exact(80, 80));
    // All but one of the layers have none.
    assert_eq!(totals(&["sparsity.method=static", "sparsity.forward=0.998"]), exact(1, 1));
    let none = (None, Counts { active: 0, backward: 0 });
    assert_eq!(totals(&["sparsity.keep_dense=['*']"]), none);
    assert_eq!(totals(&["sparsity.method=dense"]), none);
}

#[test]
fn erk_gives_exact_totals_over_the_layers_it_decides() {
    let counts = |overrides: &[&str]| {
        let mut all = vec!["model.hidden=[20, 10]", "sparsity.distribution=erk"];
        all.extend(overrides);
        let mut network = load(&all).unwrap().network([30, 1, 1], 10).unwrap();
        network
            .sparse_weights()
            .iter()
            .map(|it| (it.counts().active, it.counts().backward))
            .collect::<Vec<_>>()
    };
    // 600 and 200 entries, by 50 to 30: 80 and 160 of 800. The last layer is dense.
    assert_eq!(counts(&[]), [(50, 100), (30, 60)]);
    for method in ["sparsity.method=static", "sparsity.method=set", "sparsity.method=rigl"] {
        assert_eq!(counts(&[method]), [(50, 50), (30, 30)]);
    }
    // 100 more, by 20.
    assert_eq!(counts(&["sparsity.keep_dense=[]"]), [(45, 90), (27, 54), (18, 36)]);
    // The layer with its own numbers keeps them; 70 and 140 of the other 700.
    let own = "sparsity.layers=[{pattern=\"hidden.1\", forward=0.5, backward=0.25}]";
    assert_eq!(counts(&["sparsity.keep_dense=[]", own]), [(50, 100), (100, 150), (20, 40)]);
    // The last would be at 180%.
    let capped = counts(&["sparsity.keep_dense=[]", "sparsity.forward=0.1", "sparsity.backward=0.1"]);
    assert_eq!(capped, [(510, 510), (200, 200), (100, 100)]);
    assert_eq!(counts(&["sparsity.keep_dense=['*']"]), []);
    load(&["sparsity.distribution=erk", "sparsity.method=dense"]).unwrap().network([30, 1, 1], 10).unwrap();
}

#[test]
fn erk_names_a_layer_without_entries_and_too_many_weights() {
    let message = |overrides: &[&str], inputs| {
        let mut all = vec!["sparsity.distribution=erk", "sparsity.keep_dense=[]"];
        all.extend(overrides);
        load(&all).unwrap().network(inputs, 1).map(drop).unwrap_err().to_string()
    };
    let text =
        message(&["model.hidden=[30, 1]", "sparsity.forward=0.99", "sparsity.backward=0.9"], [30, 1, 1]);
    assert!(text.contains("layer output") && text.contains("no active entry"), "{text}");
    let wide = format!("model.hidden={:?}", [1 << 30; 18]);
    let text = message(&[&wide], [30, 1, 1]);
    assert!(text.contains("more weights than can be counted"), "{text}");
}

#[test]
fn what_one_selection_over_all_layers_cannot_have_is_refused() {
    let global = "sparsity.distribution=global";
    let own = "sparsity.layers=[{pattern=\"hidden.1\", forward=0.5, backward=0.25}]";
    refused(&[global, own], &["sparsity.layers = `hidden.1`", "distribution", "uniform"]);
    refused(&[global, own, "sparsity.method=static"], &["sparsity.layers"]);
    load(&[global, own, "sparsity.method=dense"]).unwrap();
    refused(&[global, "sparsity.init_scale=active"], &["sparsity.init_scale = active", "full or auto"]);
    load(&[global, "sparsity.init_scale=active", "sparsity.method=dense"]).unwrap();
    for method in ["sparsity.method=set", "sparsity.method=rigl", "sparsity.method=pruning"] {
        refused(
            &[global, method],
            &["sparsity.distribution = global", "set, rigl and pruning", "uniform or erk"],
        );
    }
    load(&[global, "sparsity.method=snip", "sparsity.init_scale=active"]).unwrap();
    refused(&[global, own, "sparsity.method=snip"], &["sparsity.layers"]);
    refused(&["sparsity.distribution=erd"], &["distribution=erd", "uniform", "erk", "global"]);
    let together = |overrides: &[&str]| {
        let config = load(overrides).unwrap();
        config.network([10, 1, 1], 10).map(drop).unwrap_err().to_string()
    };
    let message = together(&[global, "model.hidden=[3]", "sparsity.forward=0.99"]);
    assert!(
        message.contains("all sparse layers together") && message.contains("no active entry"),
        "{message}"
    );
}

#[test]
fn warm_up_may_be_given_in_epochs() {
    let optimizer = |settings: &[&str]| load(settings).map(|config| config.optimizer);
    let steps = |settings: &[&str]| optimizer(settings).unwrap().schedule(1000, 40).warmup_steps;
    assert_eq!(steps(&[]), 0);
    assert_eq!(steps(&["optimizer.warmup_epochs=2.5"]), 100);
    assert_eq!(steps(&["optimizer.warmup_steps=7"]), 7);
    let error =
        optimizer(&["optimizer.warmup_epochs=1", "optimizer.warmup_steps=7"]).unwrap_err().to_string();
    assert!(error.contains("optimizer.warmup_epochs"), "{error}");
    assert!(optimizer(&["optimizer.warmup_epochs=-1"]).is_err());
}
