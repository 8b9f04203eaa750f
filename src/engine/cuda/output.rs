//! What a pass brings back from the device.

use super::Engine;
use super::pack::Arranged;
use crate::device::abi;
use crate::device::abi::StepRecord;
use crate::error::Result;
use crate::model::Decisions;
use crate::model::output::{Attention, Output, Predicted, Selection, Want};
use crate::model::terms::Terms;
use crate::ops::translate::cuda::mask_words;

impl Engine {
    /// What a pass brings back, read from the workspace.
    pub(crate) fn output(&self, record: &StepRecord, a: &Arranged, want: Want, terms: Terms) -> Result<Output<f32>> {
        let c = self.config();
        let work = self.workspace()?;
        let n = a.sizes.samples as usize;
        let (logits, embedding) = (work.read("logits", 2 * n)?, work.read("z", 2 * c.hidden * n)?);
        let mut out = Output {
            loss: record.loss,
            translation_loss: record.translation_loss,
            cis_loss: record.cis_loss,
            contrast_loss: record.contrast_loss,
            ..Output::new(record.match_loss, logits, embedding)
        };
        let terms = terms.of_positives(a.positives.len());
        let mut predicted = Predicted::default();
        if terms.translate {
            predicted.on = self.predicted(a)?;
        }
        if terms.counts {
            let per = c.heads * c.genes;
            let counts = work.read::<u32>("count", a.positives.len() * per)?;
            predicted.counts = counts.chunks_exact(per).map(<[u32]>::to_vec).collect();
        }
        if terms.blind {
            predicted.blind = work.read("cis_blind", a.positives.len() * c.genes)?;
            if want.cis {
                predicted.cis = work.read("cis_y", a.positives.len() * c.genes)?;
            }
        }
        let on = out.hand_out(c, want, &a.positives, n, predicted);
        if want.attention || want.decisions {
            let selections = self.selections(a)?;
            if want.attention {
                out.attention =
                    (0..n).map(|b| Attention::of(&selections[b], a.genes.indptr[b], a.peaks.indptr[b])).collect();
            }
            if want.decisions {
                out.decisions = Some(Decisions { attend: selections, translate: on });
            }
        }
        Ok(out)
    }

    /// `[positives × heads × G]` of 0 and 1.
    fn predicted(&self, a: &Arranged) -> Result<Vec<u8>> {
        let c = self.config();
        let work = self.workspace()?;
        let words = mask_words(c.genes);
        let bits = work.read::<u32>("predicted", a.positives.len() * c.heads * words)?;
        let mut out = Vec::with_capacity(a.positives.len() * c.heads * c.genes);
        for row in bits.chunks_exact(words) {
            out.extend((0..c.genes).map(|g| (row[g / 32] >> (g % 32) & 1) as u8));
        }
        Ok(out)
    }

    /// The members that the attention chose, sample by sample.
    fn selections(&self, a: &Arranged) -> Result<Vec<Selection<f32>>> {
        let c = self.config();
        let work = self.workspace()?;
        let k = c.top_k;
        let len = a.sizes.gene_entries as usize * c.heads * k;
        let member = work.read::<u32>("member", len)?;
        let weight = work.read::<f32>("weight", len)?;
        let score = work.read::<f32>("score", len)?;
        let tau = c.tau as f32;
        let one = |b: usize| {
            let mut s = Selection { start: vec![0], ..Selection::default() };
            for e in a.genes.indptr[b]..a.genes.indptr[b + 1] {
                for head in 0..c.heads {
                    let slots = (e * c.heads + head) * k..(e * c.heads + head + 1) * k;
                    let there = slots.clone().take_while(|&m| member[m] != abi::NONE).count();
                    if there == 0 {
                        continue;
                    }
                    for m in slots.take(there) {
                        s.peak.push(member[m]);
                        s.weight.push(weight[m]);
                        s.score.push(score[m]);
                        s.kept.push(score[m] > tau);
                    }
                    s.rows.push((head as u8, e as u32));
                    s.start.push(s.peak.len() as u32);
                }
            }
            s
        };
        Ok((0..a.genes.samples()).map(one).collect())
    }
}
