//! From the configuration to a network: which layer gets what.

use topkast::{Counts, DensityError, Seed, Topology, WeightError, name_matches};
use topkast_nn::{LayerPlan, Linear, Network, NetworkShape};

use super::{Config, ConfigError, LayerSparsity, Method};

impl Config {
    /// The network's sizes for data whose inputs are `[channels, height, width]`, of a text three times 1, and that have so many classes.
    pub fn shape(&self, input: [usize; 3], classes: usize) -> NetworkShape {
        self.model.shape(input, classes)
    }

    /// How each layer of `shape` is made. Layers that are chosen for together have no entries yet.
    ///
    /// # Errors
    /// If a layer's sparsity leaves it no entries, or a pattern matches no layer.
    pub fn plans(&self, shape: &NetworkShape) -> Result<Vec<LayerPlan>, ConfigError> {
        let layers = shape.layers();
        let names = Names::of(shape, &layers);
        let kept = self.sparsity.keep_dense.iter().map(|pattern| ("sparsity.keep_dense", pattern));
        let ruled = self.sparsity.layers.iter().map(|layer| ("sparsity.layers", &layer.pattern));
        for (key, pattern) in kept.chain(ruled) {
            if !names.knows(pattern) {
                let allowed = format!("matches no layer; there are {}", names.names.join(", "));
                return Err(ConfigError::value(key, pattern, allowed));
            }
        }
        let sizes: Vec<[usize; 2]> = layers.iter().map(|&(_, size)| size).collect();
        let free = |number| !self.is_kept_dense(&names, number) && self.own(&names, number).is_none();
        let erk = self.erk(&names.names, &sizes, free)?;
        (0..sizes.len()).map(|number| self.plan(&names, number, sizes[number], erk[number])).collect()
    }

    fn is_kept_dense(&self, names: &Names<'_>, number: usize) -> bool {
        self.sparsity.keep_dense.iter().any(|pattern| names.matches(pattern, number))
    }

    /// What a layer is given of its own.
    fn own(&self, names: &Names<'_>, number: usize) -> Option<&LayerSparsity> {
        self.sparsity.layers.iter().find(|layer| names.matches(&layer.pattern, number))
    }

    fn plan(
        &self,
        names: &Names<'_>,
        number: usize,
        [rows, width]: [usize; 2],
        erk: Option<Counts>,
    ) -> Result<LayerPlan, ConfigError> {
        let config = &self.sparsity;
        let init = self.model.init().init(config.scale());
        let topology = match config.method {
            Method::Dense => return Ok(LayerPlan::Dense { init }),
            Method::Static => Topology::Static,
            Method::Set => Topology::Set,
            Method::Rigl => Topology::Rigl,
            Method::Snip => Topology::Snip,
            Method::Pruning => Topology::Pruning,
            Method::TopKast => Topology::TopKast(config.explore.explore()),
        };
        if self.is_kept_dense(names, number) {
            return Ok(LayerPlan::Dense { init });
        }
        let counts = match erk {
            Some(counts) => counts,
            None if config.is_global() => Counts { active: 0, backward: 0 },
            None => {
                let own = self.own(names, number);
                let (forward, backward) =
                    own.map_or((config.forward, config.backward), |layer| (layer.forward, layer.backward));
                let counts =
                    config.sparsity(forward, backward, "sparsity")?.counts(rows as u64 * width as u64);
                counts.map_err(|error| self.misfit(names.names[number], forward, error))?
            }
        };
        Ok(LayerPlan::Sparse { counts, topology, init, reservoir: config.reservoir() })
    }

    pub(super) fn misfit(&self, name: &str, forward: f64, error: DensityError) -> ConfigError {
        ConfigError::value("sparsity.forward", forward, format!("layer {name}: {error}"))
    }

    /// How many weights layers of these sizes have together.
    pub(super) fn total(&self, mut sizes: impl Iterator<Item = u64>) -> Result<u64, ConfigError> {
        sizes.try_fold(0, u64::checked_add).ok_or_else(|| {
            let allowed = "has more weights than can be counted";
            self.unfit_sizes(allowed)
        })
    }

    /// What is wrong with the sizes of layers.
    fn unfit_sizes(&self, problem: impl std::fmt::Display) -> ConfigError {
        let (key, value) = self.model.sizes();
        ConfigError::value(key, value, problem)
    }

    /// A fresh network. Layers that snip or pruning decide have no entries yet.
    ///
    /// # Errors
    /// If the sparsity does not fit a layer.
    pub fn network(&self, input: [usize; 3], classes: usize) -> Result<Network, ConfigError> {
        self.network_of(input, classes, |_, [outputs, inputs], plan, seed| {
            Linear::new(outputs, inputs, plan, seed)
        })
    }

    /// That a batch of a residual network's maps can be addressed.
    fn check_images(&self, shape: &NetworkShape) -> Result<(), ConfigError> {
        match shape {
            NetworkShape::ResNet(shape) if !shape.fits(self.train.batch) => {
                let allowed = "is too large for images of this size: the maps of a layer would hold 2^32 numbers or more";
                Err(ConfigError::value("train.batch", self.train.batch, allowed))
            }
            _ => Ok(()),
        }
    }

    /// A network whose layers `make` makes, given their number, outputs and inputs, plan, and seed.
    ///
    /// # Errors
    /// If the sparsity does not fit a layer, or a layer cannot be made.
    pub(crate) fn network_of(
        &self,
        input: [usize; 3],
        classes: usize,
        mut make: impl FnMut(usize, [usize; 2], &LayerPlan, Seed) -> Result<Linear, WeightError>,
    ) -> Result<Network, ConfigError> {
        let shape = self.shape(input, classes);
        self.check_images(&shape)?;
        let plans = self.settled(&shape, self.plans(&shape)?)?;
        self.model.embedding(classes)?;
        let seed = Seed::new(self.seed).named("network");
        let misfit = |error| self.unfit_sizes(error);
        let layers = shape.layers().into_iter().zip(&plans).enumerate();
        let linears =
            layers.map(|(number, ((name, size), plan))| make(number, size, plan, seed.named(&name)));
        let mut network =
            Network::from_layers(&shape, linears.collect::<Result<_, _>>().map_err(misfit)?, seed);
        if let Some(mut global) = self.global(&shape)? {
            global.start(&mut network.sparse_weights()).map_err(misfit)?;
        }
        Ok(network)
    }
}

/// The names of the layers that may be sparse, for patterns.
struct Names<'a> {
    names: Vec<&'a str>,
    /// Whether the network's first and last layers are among them; those of a Transformer-XL are its embedding, always dense.
    ends: bool,
}

impl<'a> Names<'a> {
    fn of(shape: &NetworkShape, layers: &'a [(String, [usize; 2])]) -> Self {
        let ends = !matches!(shape, NetworkShape::TransformerXl(_));
        Self { names: layers.iter().map(|(name, _)| name.as_str()).collect(), ends }
    }

    fn matches(&self, pattern: &str, number: usize) -> bool {
        match pattern {
            "first" => self.ends && number == 0,
            "last" => self.ends && number + 1 == self.names.len(),
            _ => name_matches(pattern, self.names[number]),
        }
    }

    /// Whether a pattern matches a layer, be it one that is always dense.
    fn knows(&self, pattern: &str) -> bool {
        let end = matches!(pattern, "first" | "last");
        end && !self.ends || (0..self.names.len()).any(|number| self.matches(pattern, number))
    }
}
