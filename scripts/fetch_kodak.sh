#!/usr/bin/env bash
# Downloads the 24 images of the Kodak lossless true colour suite (about 15 MB) into a directory:
#
#     scripts/fetch_kodak.sh DIR
#
# They come from https://r0k.us/graphics/kodak/ ; KODAK_URL names another place that serves kodim01.png and
# so on. Images that are there already and right are left alone, so an interrupted run can be repeated.
set -euo pipefail

url=${KODAK_URL:-https://r0k.us/graphics/kodak/kodak}

# Of the files as r0k.us serves them. Published figures are for these pixels.
sums='
a56e27cbf5f843c048b6af1d6e090760e9c92fadba88b7dee0205918a37523bd  kodim01.png
4f4b74a79237e311d72cad958237b5f7088d8bce1c82305ebefe1a70e3022dfd  kodim02.png
e25ca1ff2f0c0cb5fdfd5f9b0a0bb21ac4c3de3c84a67f35b09a85d3306249db  kodim03.png
e3b946107c5d3441c022f678d0c3caf1e224d81b1604ba840a4f88e562de61aa  kodim04.png
10349e963c5c813d327852f82c1795fa4148d69fedffc4c589bee458e3ac3d53  kodim05.png
363510303b715d4cbc384e1ce227e466b613a09e1b71ae985882bf8e7fbd9b18  kodim06.png
b77d3f006f42414bb242222e0482e750c0fb9e5ee8d4bed2f6f11c5605fe54a4  kodim07.png
ba23983c76b4832ee0e8af0592664756841a16779acd69f792e268fb6d13d6e7  kodim08.png
6a4361c2fc194feb4edaa9f9a4a0620fb9943e460ac7fdf037fb0f6dd6607a7d  kodim09.png
9dfb70f5867c29ff9ed6313683f19b3d867849e40fbc0c4c54a4a89df341cf23  kodim10.png
7936814b58b5387fce2e4e2488b4ec830dadd95fa9520f358ddb30990b50f2b6  kodim11.png
d78c37c2f04f23761ed2367dd77e2db584ddd4c3950833fecf89f199a8126980  kodim12.png
bc34a3ce58dea09dce1704c997171602de90cb34d0c8503a988b77f473d39b08  kodim13.png
55a94550ff18f3246c4074fd32b77b0c74447c26b6ad274d564d999c0450ba6e  kodim14.png
7538cbb80cb9103606c48b806eae57d56c885c7f90b9b3be70a41160f9cbb683  kodim15.png
a89c7268ccd4718ba424a99fc4643c572cf692ca6eae887185ceb4e9f11d2e54  kodim16.png
37afcc89fbdcb76d9518e04b2fc011027e2f4cd14b3b2f83cefd721641a47c5b  kodim17.png
1a9258c365988961d87a0598725b609139c303ad48a5aad6c503c3b1a87849aa  kodim18.png
b7450b264b1b0a411390d8931b112c27905a992520fc90569dc4b920aa32bbdc  kodim19.png
3b46c71e3b92a563820ba32936be8330c586c41f938efd94be938386aae4328a  kodim20.png
ac958597c82073f6bb65129c68f72b651db5b9efd82e11547d07350214bc268b  kodim21.png
1cee58eb1f2d9c7ebb254d208a03c783ce6cf2c4d8c2cf45e235dd23b4ce1b29  kodim22.png
e3111a2fd4da24af15d6459ef9eacfe54106b38e27b4a21821b75c3f5d2d5baf  kodim23.png
1071c68372cc5a01435c2c225a5cf7d4bb803846ec08bb6b3d6721b156d7cb96  kodim24.png
'

die() {
    printf 'fetch_kodak: %s\n' "$1" >&2
    exit 1
}

have() { command -v "$1" > /dev/null 2>&1; }

if have sha256sum; then
    digest() { sha256sum < "$1" | cut -d ' ' -f 1; }
elif have shasum; then
    digest() { shasum -a 256 < "$1" | cut -d ' ' -f 1; }
else
    die 'needs sha256sum or shasum on the PATH; install coreutils'
fi

if have curl; then
    # --fail: a page that says "not found" is no image.
    get() { curl --fail --silent --show-error --location --retry 3 --connect-timeout 30 --output "$2" "$1"; }
elif have wget; then
    get() { wget --quiet --tries=3 --timeout=30 --output-document="$2" "$1"; }
else
    die 'needs curl or wget on the PATH; install one of them'
fi

[[ $# -eq 1 && $1 != -* && -n $1 ]] || die 'usage: fetch_kodak.sh DIR'
directory=$1
mkdir -p "$directory" || die "$directory: can't be made"

temporary=$(mktemp "$directory/.kodak.XXXXXX") || die "$directory: can't be written to"
trap 'rm -f "$temporary"' EXIT

fetched=0 kept=0 wrong=()
while read -r sum name; do
    [[ -n $name ]] || continue
    target=$directory/$name
    if [[ -e $target ]]; then
        if [[ $(digest "$target") == "$sum" ]]; then
            kept=$((kept + 1))
        else
            wrong+=("$target")
        fi
        continue
    fi
    get "$url/$name" "$temporary" || die "$url/$name: can't be downloaded; try again, or set KODAK_URL"
    if [[ $(digest "$temporary") != "$sum" ]]; then
        wrong+=("$url/$name")
        continue
    fi
    # mktemp's file is the owner's alone; an image should be as readable as any other file.
    chmod "$(printf '%o' $((0666 & ~$(umask))))" "$temporary"
    mv "$temporary" "$target"
    fetched=$((fetched + 1))
done <<< "$sums"

if [[ ${#wrong[@]} -gt 0 ]]; then
    for name in "${wrong[@]}"; do
        printf 'fetch_kodak: %s: its SHA-256 is not that of the original\n' "$name" >&2
    done
    die "${#wrong[@]} of 24 images differ. Some public copies were saved again as PNG (the same pixels in other \
bytes), some were scaled or are JPEG inside: remove files named above and fetch them from r0k.us, without \
KODAK_URL"
fi
echo "$directory: all 24 images are right ($fetched fetched, $kept were there)"
