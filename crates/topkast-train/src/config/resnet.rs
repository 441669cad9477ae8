//! `[model]` with `kind = "resnet"`.

use serde::{Deserialize, Serialize};
use topkast_nn::{BlockKind, ResNetShape, Stem};

use super::sections::within;
use super::{ConfigError, InitKind, StemKind};

/// `[model]` with `kind = "resnet"`
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResNetConfig {
    /// 18, 34, 50, 101 or 152 as for ImageNet; or 6n + 2 as for CIFAR (20, 32, 44, 56, 110), 6n + 4 as wide networks count (16, 22, 28, 40):
    /// three stages of n blocks.
    pub depth: usize,
    /// Channels of the stem and the first stage; 0 takes 64 as for ImageNet, 16 as for CIFAR.
    pub width: usize,
    /// Times so many channels are inside blocks.
    pub widen: usize,
    /// What comes before the first block.
    pub stem: StemKind,
    /// Whether blocks begin as their shortcuts: the gain of their last norm starts at 0.
    pub zero_last_norm: bool,
    /// How initial weights are distributed.
    pub init: InitKind,
}

impl Default for ResNetConfig {
    fn default() -> Self {
        Self {
            depth: 20,
            width: 0,
            widen: 1,
            stem: StemKind::Auto,
            zero_last_norm: false,
            init: InitKind::KaimingNormal,
        }
    }
}

impl ResNetConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within("model.width", self.width, 0, 4096)?;
        within("model.widen", self.widen, 1, 64)?;
        if self.blocks().is_none() {
            let allowed = "must be 18, 34, 50, 101 or 152, or 6n + 2 or 6n + 4 for n from 1 to 200 (as 20, 28, 32, 56, 110)";
            return Err(ConfigError::value("model.depth", self.depth, allowed));
        }
        Ok(())
    }

    /// What its blocks are and how many each stage has.
    fn blocks(&self) -> Option<(BlockKind, Vec<usize>)> {
        Some(match self.depth {
            18 => (BlockKind::Basic, vec![2, 2, 2, 2]),
            34 => (BlockKind::Basic, vec![3, 4, 6, 3]),
            50 => (BlockKind::Bottleneck, vec![3, 4, 6, 3]),
            101 => (BlockKind::Bottleneck, vec![3, 4, 23, 3]),
            152 => (BlockKind::Bottleneck, vec![3, 8, 36, 3]),
            depth @ 8..=1204 if matches!(depth % 6, 2 | 4) => (BlockKind::Basic, vec![(depth - 2) / 6; 3]),
            _ => return None,
        })
    }

    /// The network's sizes for images `[channels, height, width]` of so many classes.
    pub(super) fn shape(&self, [channels, height, width]: [usize; 3], classes: usize) -> ResNetShape {
        let (block, stages) = self.blocks().expect("the config was checked");
        let own_width = if stages.len() == 3 { 16 } else { 64 };
        let stem = match self.stem {
            StemKind::Small => Stem::Small,
            StemKind::Large => Stem::Large,
            StemKind::Auto if height.min(width) < 64 => Stem::Small,
            StemKind::Auto => Stem::Large,
        };
        ResNetShape {
            channels,
            size: [height, width],
            classes,
            stem,
            block,
            stages,
            width: if self.width == 0 { own_width } else { self.width },
            widen: self.widen,
            zero_last_norm: self.zero_last_norm,
        }
    }
}
