"""Image processing over the photographs that come with scikit-image.

    python images.py [folder]      # also writes the edges as PNG files, if a folder is given

Each image goes through a small graph: loaded once, then smoothed, and from there on two ways that
run at the same time. The pixels lie in shared memory between the tasks, and are not copied.

    load - smooth --+- edges -----------------+
                    +- regions (Otsu, labels) +- describe
"""

import sys
import time
from pathlib import Path

import manyhands as mh
import numpy as np
from skimage import color, data, feature, filters, io, measure, util

# Those that are files within the package: nothing is downloaded.
IMAGES = [
    *("astronaut", "brick", "camera", "cell", "chelsea", "clock", "coffee", "coins", "grass"),
    *("gravel", "horse", "hubble_deep_field", "immunohistochemistry", "moon", "page", "retina"),
    *("rocket", "text"),
]


@mh.task
def load(name):
    """A sample image in grey, as numbers from 0 to 1."""
    pixels = getattr(data, name)()
    return util.img_as_float(color.rgb2gray(pixels) if pixels.ndim == 3 else pixels)


@mh.task
def smooth(image, sigma=2.0):
    """Without its noise."""
    return filters.gaussian(image, sigma)


@mh.task
def edges(image):
    """Where the image changes, after Canny."""
    return feature.canny(image, sigma=1.0)


@mh.task
def regions(image):
    """The connected regions that are brighter than Otsu's threshold: their sizes in pixels."""
    labels = measure.label(image > filters.threshold_otsu(image))
    return np.sort(np.bincount(labels.ravel())[1:])[::-1]


@mh.task
def describe(name, image, edges, sizes):
    """What was found in an image."""
    return {
        "name": name,
        "pixels": image.size,
        "brightness": float(image.mean()),
        "edges": int(edges.sum()),
        "regions": len(sizes),
        "largest": int(sizes[0]),
    }


def graph(name):
    """The nodes of one image: its edges, and its description."""
    image = load.lazy(name)
    smoothed = smooth.lazy(image)
    outline = edges.lazy(smoothed)
    return outline, describe.lazy(name, image, outline, regions.lazy(smoothed))


def analyse(client, names=IMAGES):
    """Descriptions of the images, and their edges, by the cluster of `client`."""
    outlines, descriptions = map(list, zip(*map(graph, names), strict=True))
    return mh.compute(descriptions, outlines, client=client)


def alone(names=IMAGES):
    """The same in this process, one image after the other."""
    descriptions, outlines = [], []
    for name in names:
        image = load(name)
        smoothed = smooth(image)
        outlines.append(edges(smoothed))
        descriptions.append(describe(name, image, outlines[-1], regions(smoothed)))
    return descriptions, outlines


def main():
    with mh.Client(preload=["skimage.feature", "skimage.filters", "skimage.measure"]) as client:
        start = time.perf_counter()
        found, outlines = analyse(client)
        together = time.perf_counter() - start
    for image in found:
        print(
            f"{image['name']:<22}{image['pixels']:>9,} pixels{image['edges']:>9,} on edges"
            f"{image['regions']:>7,} regions, the largest {image['largest']:,}"
        )
    if len(sys.argv) > 1:
        folder = Path(sys.argv[1])
        folder.mkdir(parents=True, exist_ok=True)
        for image, outline in zip(found, outlines, strict=True):
            io.imsave(folder / f"{image['name']}.png", util.img_as_ubyte(outline))
    start = time.perf_counter()
    expected, _ = alone()
    one_process = time.perf_counter() - start
    print(f"\nmanyhands {together:.2f} s, one process {one_process:.2f} s")
    assert found == expected
    print("both agree in every figure")


if __name__ == "__main__":
    main()
