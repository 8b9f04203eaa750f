//! Which parts of the loss, and which outputs, a batch needs: the one place that decides it. The CPU's pass, the engine of
//! a device and its verification ask here.
//!
//! See docs/model.md, section 5.5 (what the loss is made of) and section 8.2 (whose translation is brought back).

use super::config::ModelConfig;
use super::want::Want;

/// What a pass computes beside the matching.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Terms {
    /// The published translation.
    pub translate: bool,
    /// Its exact counts, as well.
    pub counts: bool,
    /// The cis term.
    pub cis: bool,
    /// The cis term from ATAC alone, as well.
    pub blind: bool,
    /// The contrastive term.
    pub contrast: bool,
}

impl Terms {
    /// What a pass needs that is to bring back `want`, and that goes backward where it is `training`: of a batch with
    /// positives enough, see [`Terms::of_positives`].
    ///
    /// - The published translation: where it is part of the loss, or where it or its counts are wanted.
    /// - The cis term: where the model has one, and it is part of the loss, or wanted, or tells the translation. What is
    ///   wanted of it is wanted from ATAC alone, too; the loss needs that not.
    /// - The contrastive term: in training only.
    pub fn of(config: &ModelConfig, want: Want, training: bool) -> Self {
        let (has, told) = (config.cis.is_some(), Translation::of(config, want) == Translation::Cis);
        // Where the cis term tells the translation, the published one is still brought if it is part of the loss: its
        // loss is looked at.
        let published = want.translation && (!told || config.trains_translation());
        Terms {
            translate: training && config.trains_translation() || published || want.counts,
            counts: want.counts,
            cis: has && (training || want.cis || told),
            blind: has && (want.cis || told),
            contrast: training && config.contrasts(),
        }
    }

    /// The same for a batch of so many positives: all of it is said of positives, and the contrastive term compares them.
    pub fn of_positives(self, positives: usize) -> Self {
        match positives {
            0 => Terms::default(),
            1 => Terms { contrast: false, ..self },
            _ => self,
        }
    }

    /// Is something said of every gene by the columns of peaks? Then each gene has a row in the table.
    pub fn by_column(&self) -> bool {
        self.translate || self.cis
    }
}

/// Whose translation a pass brings back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Translation {
    /// None was wanted.
    None,
    /// The published one, which the counts belong to.
    Published,
    /// That of the cis term from ATAC alone.
    Cis,
}

impl Translation {
    /// Whose is it that `want` asks for? See [`ModelConfig::translates_by_cis`].
    pub fn of(config: &ModelConfig, want: Want) -> Self {
        match (want.translation, want.counts) {
            (true, _) if config.translates_by_cis() => Translation::Cis,
            (false, false) => Translation::None,
            _ => Translation::Published,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::{CisConfig, CisTarget};

    /// `t` translation, `n` its counts, `c` cis, `b` blind, `r` contrast.
    fn letters(t: Terms) -> String {
        let all = [(t.translate, 't'), (t.counts, 'n'), (t.cis, 'c'), (t.blind, 'b'), (t.contrast, 'r')];
        all.iter().filter(|x| x.0).map(|x| x.1).collect()
    }

    /// Every configuration × what is wanted × forward or training × positives.
    #[test]
    fn terms_of_each_configuration_and_wish() {
        let cis = |target| {
            let depth = [[0.0, 1.0]; 2];
            Some(CisConfig { weight: 1.0, window: 1000, components: 2, target, sparsity: 0.0, depth })
        };
        let of = |alpha, cis, contrast| ModelConfig { alpha, cis, contrast, ..ModelConfig::default() };
        let none = Want::default();
        let wants = [
            none,
            Want { translation: true, ..none },
            Want { counts: true, ..none },
            Want { cis: true, ..none },
            Want { translation: true, counts: true, cis: true, ..none },
            Want { attention: true, nodes: true, decisions: true, ..none },
        ];
        let (detection, level) = (cis(CisTarget::Detection), cis(CisTarget::Level));
        // Of each configuration: forward with each of the wants, then training with each.
        let table = [
            ("published", of(1.0, None, 0.0), ["", "t", "tn", "", "tn", ""], ["t", "t", "tn", "t", "tn", "t"]),
            ("matching alone", of(0.0, None, 0.0), ["", "t", "tn", "", "tn", ""], ["", "t", "tn", "", "tn", ""]),
            (
                "detection and contrast",
                of(0.0, detection.clone(), 1.0),
                ["", "cb", "tn", "cb", "tncb", ""],
                ["cr", "cbr", "tncr", "cbr", "tncbr", "cr"],
            ),
            (
                "detection beside the published translation",
                of(1.0, detection, 0.0),
                ["", "tcb", "tn", "cb", "tncb", ""],
                ["tc", "tcb", "tnc", "tcb", "tncb", "tc"],
            ),
            (
                "level",
                of(0.0, level, 0.5),
                ["", "t", "tn", "cb", "tncb", ""],
                ["cr", "tcr", "tncr", "cbr", "tncbr", "cr"],
            ),
        ];
        for (name, config, forward, training) in table {
            for (i, want) in wants.into_iter().enumerate() {
                for (backward, expected) in [(false, forward[i]), (true, training[i])] {
                    let terms = Terms::of(&config, want, backward);
                    assert_eq!(letters(terms), expected, "{name}, {want:?}, training {backward}");
                    assert_eq!(terms.by_column(), expected.contains(['t', 'c']));
                    // Labels: no positive, one, some.
                    assert_eq!(letters(terms.of_positives(0)), "");
                    assert_eq!(letters(terms.of_positives(1)), expected.replace('r', ""));
                    assert_eq!(letters(terms.of_positives(2)), expected);
                }
            }
            let whose: Vec<Translation> = wants.iter().map(|&w| Translation::of(&config, w)).collect();
            let told = if config.translates_by_cis() { Translation::Cis } else { Translation::Published };
            assert_eq!(
                whose,
                [Translation::None, told, Translation::Published, Translation::None, told, Translation::None],
                "{name}"
            );
        }
    }
}
