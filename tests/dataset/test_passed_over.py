"""Proves that no file with an image's ending is passed over."""

from PIL import Image

from resnet50.dataset import passed_over
from resnet50.dataset.passed_over import PassedOver, why_no_image


def test_whatever_pillow_reads_is_taken():
    endings = Image.registered_extensions()
    assert endings[".jpg"] in Image.OPEN
    readable = {ending for ending, kind in endings.items() if kind in Image.OPEN}
    assert not readable & set(passed_over._KIND_OF)


def test_every_ending_has_a_dot_and_is_lower_case():
    endings = passed_over._KIND_OF
    assert ".txt" in endings
    assert all(e[0] == "." and e == e.lower() and e.count(".") == 1 for e in endings)


def test_reasons():
    assert why_no_image("notes.TXT") == "a text"
    assert why_no_image("a.jpg.txt") == "a text"
    assert why_no_image("._photo.jpg") == "hidden"
    names = "a.jpg a.txt.jpg a txt a. a.JPEG_2 a.bin a.tif a.jpg~"
    assert not any(map(why_no_image, names.split()))


def test_remarks_count_and_name_the_first():
    passed = PassedOver()
    assert passed.remarks() == ()
    for index in range(1_234):
        passed.add_file(f"{index}.txt", "a text")
    passed.add_folder("a/loop")
    assert passed.remarks() == (
        "files that are no images: 1,234 passed over; the first is 0.txt (a text)",
        "folders that links lead to again: 1 passed over; the first is a/loop",
    )
