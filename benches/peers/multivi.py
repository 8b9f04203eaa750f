#!/usr/bin/env python3
"""MultiVI (scvi-tools) on the same cells: partners, expression, embeddings. The flags of peers.py, and --epochs.

Validation and test cells have no RNA in training, so that their RNA is told from ATAC. Peaks open in fewer than 20 training cells
are left out. What it does as it trains goes to FILE.multivi.jsonl beside the rows. Needs scvi-tools.
"""
import argparse
import json
import time

import common
import numpy as np
import scipy.sparse as sp
from common import Cells


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("--rna", "--atac", "--prepared", "--name", "--out"):
        ap.add_argument(flag, required=True)
    ap.add_argument("--seed", type=int, required=True)
    ap.add_argument("--cell-type", default="cell_type")
    ap.add_argument("--epochs", type=int, default=500)
    ap.add_argument("--rate", type=float, default=1e-4, help="learning rate")
    ap.add_argument("--watch", type=int, default=10, help="epochs between looks at the validation cells")
    o = ap.parse_args()
    about = {"data": o.name, "split": "cell", "seed": o.seed}
    name = f"MultiVI, {o.epochs} epochs of 500"
    if name in common.done(o.out, about):
        return
    import anndata as ad
    import mudata
    import scvi
    import torch
    from lightning.pytorch.callbacks import Callback
    torch.set_num_threads(1)
    scvi.settings.seed = o.seed
    cells = Cells(o.rna, o.atac, o.cell_type, o.prepared, None, o.seed)
    keep = np.asarray(cells.B[cells.tr].sum(0)).ravel() >= 20

    def both(hidden):
        """MuData; RNA of the cells `hidden` left out."""
        seen = np.ones(len(cells.y), np.float32)
        seen[hidden] = 0
        rna, atac = sp.csr_matrix(sp.diags(seen) @ cells.C).astype(np.float32), cells.B[:, keep]
        m = mudata.MuData({"rna": ad.AnnData(rna), "atac": ad.AnnData(atac)})
        for part in m.mod.values():
            part.obs["_indices"] = np.arange(part.n_obs)
        m.obs["_indices"] = np.arange(m.n_obs)
        return m

    begun = time.process_time()
    data = both(np.r_[cells.va, cells.te])
    scvi.model.MULTIVI.setup_mudata(data, modalities={"rna_layer": "rna", "atac_layer": "atac"})
    model = scvi.model.MULTIVI(data, n_genes=cells.C.shape[1], n_regions=int(keep.sum()), fully_paired=False)

    def told(q):
        p = np.asarray(model.get_normalized_expression(indices=q), np.float64)
        return np.log1p(p / p.sum(1, keepdims=True) * cells.median)

    class Watch(Callback):
        def on_train_epoch_end(self, trainer, module):
            epoch = trainer.current_epoch + 1
            if epoch % o.watch and epoch != o.epochs:
                return
            model.is_trained_ = True
            model.module.eval()
            va = cells.va
            m = common.expression_metrics(told(va), cells.L[va], cells.C[va].toarray() > 0, cells.least)
            model.module.train()
            model.is_trained_ = False
            line = {"epoch": epoch, "cpu_s": time.process_time() - begun,
                    **{k: round(float(v), 5) for k, v in m.items()}}
            with open(o.out + ".multivi.jsonl", "a") as f:
                f.write(json.dumps({**about, **line}) + "\n")
            print(line, flush=True)

    model.train(max_epochs=o.epochs, lr=o.rate, batch_size=128, accelerator="cpu", early_stopping=False, train_size=0.98,
                validation_size=0.02, check_val_every_n_epoch=None, enable_progress_bar=False, callbacks=[Watch()])
    losses = [round(float(x), 2) for x in model.history["elbo_train"].values.ravel()[-20:]]
    expression = told(cells.te)
    full = both([])
    rna, atac = (model.get_latent_representation(full, modality=m) for m in ("expression", "accessibility"))
    joint = model.get_latent_representation(full)
    cpu, peak = time.process_time() - begun, common.peak_mib()

    def scores(q):
        a, b = rna[q] - rna[cells.tr].mean(0), atac[q] - atac[cells.tr].mean(0)
        return -((a[:, None] - b[None]) ** 2).sum(2)
    result = {"scores": (scores(cells.va), scores(cells.te)), "expression": expression, "z": {"joint": joint, "atac": atac},
              "chosen": {"epoch": o.epochs, "rate": o.rate, "peaks": int(keep.sum()), "loss of the last 20 epochs": losses}}
    common.write_rows(o.out, cells, about, name, result, cpu, peak)


if __name__ == "__main__":
    main()
