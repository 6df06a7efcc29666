# For the checks of examples/cluster, which source it: a study of three domains as its page describes it, with a trainer and
# a scorer that stand in for PyTorch. 8 proxies for 512.

# make_cluster_study FOLDER
make_cluster_study() {
    mkdir -p "$1/texts"
    cp -r examples/cluster "$1"
    sed -i 's/completions: 64/completions: 3/' "$1/cluster/kubernetes.yaml"
    printf 'domain,tokens\ncode,15e9\nweb,15e9\nbooks,15e9\n' > "$1/domains.csv"
    for text in code web books; do echo "$text" > "$1/texts/$text.txt"; done

    # Losses by a law of the weights; the command of every call is kept.
    cat > "$1/train.sh" <<'END'
#!/bin/sh
echo "$1 $2" >> trained
echo "$1 $2" | awk -F'[ ,=]' '{
    for (i = 2; i < NF; i += 2) w[$i] = $(i + 1)
    printf "run,code,web,books\n%s,%.6f,%.6f,%.6f\n", $1, 2 + exp(-3 * w["code"]), 3 + exp(-2 * w["web"]),
        2.5 + exp(-4 * w["books"])
}' > "$3/losses.part" && mv "$3/losses.part" "$3/losses.csv"
END
    chmod +x "$1/train.sh"

    # 400 tokens a text, more probable for the expert of the text's domain.
    cat > "$1/export_logprobs.py" <<'END'
import os, struct, sys
out, _, expert, _, text = sys.argv[1:]
expert, text = expert.split("=")[0], text.split("=")[0]
open("exported", "a").write(f"{expert} {text}\n")
def save(name, values):
    head = "{'descr': '<f4', 'fortran_order': False, 'shape': (%d,), }" % len(values)
    head = head.ljust(117) + "\n"
    path = os.path.join(out, text, name + ".npy")
    open(path, "wb").write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() +
                           struct.pack("<%df" % len(values), *values))
os.makedirs(os.path.join(out, text), exist_ok=True)
save(expert, [-(1.5 if expert == text else 3) - (7 * i + len(expert)) % 11 / 10 for i in range(400)])
save("doc", [i // 20 for i in range(400)])
save("bytes", [1 + i % 5 for i in range(400)])
END
}

# The commands of its page: indented lines.
cluster_commands() {
    sed -n 's/^    \([a-zA-Z].*\)/\1/p' examples/cluster/README.md |
        sed 's/--suggest 512/--suggest 8/; s/--array=0-575/--array=0-10/; s/--array=0-63/--array=0-2/'
}
