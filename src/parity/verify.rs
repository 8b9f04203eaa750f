//! Which check belongs to which pass of which op.

use super::sink::Sink;
use super::view::{HEAD_LAYERS, View, is_first_of_cis};
use crate::device::program::Pass;
use crate::device::workspace::mask_words;
use crate::engine::cuda::probe::Moment;
use crate::model::PREFIX;
use crate::model::Precision;

impl<'a> View<'a> {
    /// Compares all that the pass has written.
    pub fn verify(&self, m: &Moment<'_>, out: &mut Sink<'_>) {
        if out.whole {
            let wrong = self.outside(m);
            out.exact(if m.pass == Pass::Forward { "all other memory" } else { "all other memory, backward" }, wrong);
        }
        match (m.op, m.pass) {
            ("project", Pass::Forward) => self.project_forward(out),
            ("project", _) => self.project_backward(out),
            ("translate", Pass::Forward) => self.translate_forward(out),
            ("translate", _) => self.translate_backward(out),
            ("attend", Pass::Forward) => self.attend_forward(out),
            ("attend", _) => self.attend_backward(out),
            ("pool", Pass::Forward) => self.pool_forward(out),
            ("pool", _) => self.pool_backward(out),
            ("head", Pass::Forward) => self.head_forward(out),
            ("head", _) => self.head_backward(out),
            ("contrast", Pass::Forward) => self.contrast_forward(out),
            ("contrast", _) => self.contrast_backward(out),
            ("cis", Pass::Forward) => self.cis_forward(out),
            ("cis", _) if is_first_of_cis(m) => self.cis_backward(out),
            ("cis", _) => self.cis_backward_tables(out),
            ("adam", _) => self.adam(out),
            _ => out.exact("op", Some("there is no check of this op".into())),
        }
    }

    // ------------------------------------------------------------------------------------------ who may write where

    /// Regions that a pass may write: name and how many bytes (all: `usize::MAX`), and tensors of the gradient.
    pub(crate) fn writes(&self, m: &Moment<'_>) -> (Vec<(&'static str, usize)>, Vec<String>) {
        let (c, z) = (self.config, &self.sizes);
        let n = |x: u32| x as usize;
        let (b, h, heads, k) = (n(z.samples), c.hidden, c.heads, c.top_k);
        let (ge, pe, gr, pr) = (n(z.gene_entries), n(z.peak_entries), n(z.gene_rows), n(z.peak_rows));
        let (pos, u, genes) = (n(z.positives), n(z.columns), c.genes);
        let gw = c.embedding_dim + 2 + c.gene_features();
        let pw = c.embedding_dim + 2 + c.peak_features();
        let all = usize::MAX;
        let element = if self.precision == Precision::F32 { 4 } else { 2 };
        let padded = heads * (h / heads).next_multiple_of(16) * element;
        let layer = |l: &str| [format!("{PREFIX}{l}.weight"), format!("{PREFIX}{l}.bias")];
        let fc = |l: &str| [format!("{l}.weight"), format!("{l}.bias")];
        let tables = ["rna_idembedding.weight".to_string(), "atac_idembedding.weight".to_string()];
        let (components, own_cell) = (c.cis.as_ref().map_or(0, |c| c.components), fc("cis.cell"));
        let d_tables = [("d_q", 4 * gr * h), ("d_k", 4 * pr * h), ("d_uq", 4 * h), ("d_uk", 4 * h), ("u_part", all)];
        match (m.op, m.pass) {
            ("project", Pass::Forward) => {
                (vec![("q", 4 * gr * h), ("k", 4 * pr * h), ("uq", 4 * h), ("uk", 4 * h)], Vec::new())
            }
            ("project", _) => (
                vec![("weight_part", all), ("chromosome_part", all)],
                [&tables[..], &layer("rna_query"), &layer("atac_key")].concat(),
            ),
            ("translate", Pass::Forward) => (
                vec![
                    ("genes_eff", genes * padded),
                    ("keys_eff", u * padded),
                    ("mask", 4 * heads * mask_words(genes) * u),
                    ("predicted", 4 * pos * heads * mask_words(genes)),
                    ("count", 4 * pos * heads * genes),
                    ("d_pred", 4 * pos * heads * genes),
                    ("loss_part", 4 * pos * heads),
                ],
                Vec::new(),
            ),
            ("translate", _) => (
                [
                    &d_tables[..],
                    &[
                        ("flag", all),
                        ("active", all),
                        ("n_active", all),
                        ("d_keys", 4 * u * h),
                        ("translate_part", all),
                    ],
                ]
                .concat(),
                Vec::new(),
            ),
            ("attend", Pass::Forward) => (
                vec![
                    ("row_sums", 4 * ge * heads),
                    ("member", 4 * ge * heads * k),
                    ("weight", 4 * ge * heads * k),
                    ("score", 4 * ge * heads * k),
                    ("col_sums", 4 * pe * heads),
                    ("pair_ptr", 8 * pe * heads),
                    ("pair", 4 * ge * heads * k),
                ],
                Vec::new(),
            ),
            ("attend", _) => ([&d_tables[..], &[("d_logit", 4 * ge * heads * k)]].concat(), Vec::new()),
            ("pool", Pass::Forward) => (
                vec![
                    ("pool_part", all),
                    ("bag_a", 4 * b * heads * pw),
                    ("bag_r", 4 * b * heads * gw),
                    ("mean_a", 4 * b * pw),
                    ("mean_r", 4 * b * gw),
                ],
                Vec::new(),
            ),
            ("pool", _) => (vec![("d_row_sums", 4 * ge * heads), ("d_col_sums", 4 * pe * heads)], tables.to_vec()),
            ("head", Pass::Forward) => (
                vec![
                    ("m_r", 4 * b * h),
                    ("m_a", 4 * b * h),
                    ("x_r", 8 * b * h),
                    ("x_a", 8 * b * h),
                    ("z", 8 * b * h),
                    ("a1", 4 * b * h),
                    ("a2", 2 * b * h),
                    ("logits", 8 * b),
                    ("d_logits", 8 * b),
                    ("record", all),
                ],
                Vec::new(),
            ),
            ("head", _) => {
                let mut names: Vec<String> = HEAD_LAYERS.iter().flat_map(|l| layer(l)).collect();
                names.extend(["fc1", "fc2", "fc3"].iter().flat_map(|l| fc(l)));
                (
                    vec![
                        ("d_m_r", 4 * b * h),
                        ("d_m_a", 4 * b * h),
                        ("d_x_r", 8 * b * h),
                        ("d_x_a", 8 * b * h),
                        ("d_z", 8 * b * h),
                        ("d_a1", 4 * b * h),
                        ("d_a2", 2 * b * h),
                        ("d_bag_a", 4 * b * heads * pw),
                        ("d_bag_r", 4 * b * heads * gw),
                        ("d_mean_a", 4 * b * pw),
                        ("d_mean_r", 4 * b * gw),
                    ],
                    names,
                )
            }
            ("contrast", Pass::Forward) => (
                vec![
                    ("contrast_logits", 4 * pos * pos),
                    ("contrast_lines", 16 * pos),
                    ("contrast_part", 4 * pos),
                    ("record", all),
                ],
                Vec::new(),
            ),
            ("contrast", _) => {
                (vec![("contrast_logits", 4 * pos * pos), ("d_x_r", 8 * b * h), ("d_x_a", 8 * b * h)], Vec::new())
            }
            ("cis", Pass::Forward) => (
                vec![
                    ("cis_place", 4 * c.peaks),
                    ("cis_open", 4 * u * pos.div_ceil(32)),
                    ("cis_value_score", 4 * genes),
                    ("cis_score", all),
                    ("cis_sums", 4 * pos * c.chromosomes * h),
                    ("cis_near", 4 * pos * genes),
                    ("cis_cell", 4 * b * components),
                    ("cis_x", 4 * pos * (components + 2)),
                    ("cis_y", 4 * pos * genes),
                    ("cis_d_y", 4 * pos * genes),
                    ("cis_loss_part", 4 * pos),
                    ("cis_size_part", all),
                    ("cis_edge_part", all),
                    ("cis_edges", all),
                    ("record", all),
                ],
                Vec::new(),
            ),
            ("cis", _) if is_first_of_cis(m) => {
                let names = [&fc("cis.gene")[..], if components > 0 { &own_cell } else { &[] }].concat();
                let mut regions = vec![("cis_d_x", 4 * pos * (components + 2))];
                if components > 0 {
                    regions.extend([("cis_d_cell", 4 * b * components), ("d_mean_a", 4 * b * pw)]);
                }
                (regions, names)
            }
            ("cis", _) => (
                [
                    &d_tables[..],
                    &[
                        ("cis_d_score", all),
                        ("cis_d_value", all),
                        ("cis_d_sums", 4 * pos * c.chromosomes * h),
                        ("cis_v_part", all),
                        ("cis_decay_part", all),
                    ],
                ]
                .concat(),
                vec!["cis.decay".into()],
            ),
            _ => {
                let arenas = ["p", "g", "m", "v", "norm_part", "control", "record"];
                (arenas.iter().map(|&a| (a, all)).collect(), Vec::new())
            }
        }
    }
}
