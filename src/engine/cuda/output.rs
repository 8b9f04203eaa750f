//! What a pass brings back from the device.

use super::Engine;
use super::pack::Arranged;
use crate::device::abi;
use crate::device::abi::StepRecord;
use crate::engine::cpu::{sparse, spread};
use crate::error::Result;
use crate::model::Decisions;
use crate::model::output::{Output, Selection, Want};
use crate::model::terms::Terms;
use crate::ops::translate::cuda::mask_words;

impl Engine {
    /// What a pass brings back, read from the workspace.
    pub(crate) fn output(&self, record: &StepRecord, a: &Arranged, want: Want, terms: Terms) -> Result<Output<f32>> {
        let c = self.config();
        let work = self.workspace()?;
        let n = a.sizes.samples as usize;
        let mut out = Output {
            loss: record.loss,
            match_loss: record.match_loss,
            translation_loss: record.translation_loss,
            cis_loss: record.cis_loss,
            contrast_loss: record.contrast_loss,
            cis: Vec::new(),
            cis_blind: Vec::new(),
            logits: work.read("logits", 2 * n)?,
            embedding: work.read("z", 2 * c.hidden * n)?,
            attention: Vec::new(),
            translation: Vec::new(),
            counts: Vec::new(),
            nodes: Vec::new(),
            decisions: None,
        };
        let predicted = if terms.translate && !a.positives.is_empty() { self.predicted(a)? } else { Vec::new() };
        let per = c.heads * c.genes;
        let by_cis = want.translation && c.translates_by_cis();
        let predictions = |region: &str| -> Result<Vec<Vec<f32>>> {
            let all = work.read::<f32>(region, a.positives.len() * c.genes)?;
            Ok(all.chunks_exact(c.genes).map(<[f32]>::to_vec).collect())
        };
        if terms.blind && !a.positives.is_empty() {
            let blind = predictions("cis_blind")?;
            if by_cis {
                let decide = |row: &Vec<f32>| row.iter().map(|&y| u8::from(y > 0.0)).collect();
                out.translation = spread(&a.positives, n, blind.iter().map(decide).collect());
            }
            if want.cis {
                out.cis = spread(&a.positives, n, predictions("cis_y")?);
                out.cis_blind = spread(&a.positives, n, blind);
            }
        }
        if (want.translation || want.counts) && !by_cis {
            out.translation = spread(&a.positives, n, predicted.chunks_exact(per).map(<[u8]>::to_vec).collect());
        }
        if want.counts {
            let counts = work.read::<u32>("count", a.positives.len() * per)?;
            out.counts = spread(&a.positives, n, counts.chunks_exact(per).map(<[u32]>::to_vec).collect());
        }
        if want.attention || want.decisions {
            let selections = self.selections(a)?;
            if want.attention {
                out.attention = (0..n).map(|b| sparse(&selections[b], a.genes.indptr[b], a.peaks.indptr[b])).collect();
            }
            if want.decisions {
                out.decisions = Some(Decisions { attend: selections, translate: predicted });
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
