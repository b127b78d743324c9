"""Assets, data products, their types, listings and the search for them, through boto3's client."""

import json

import pytest

from tests.include.local.catalog.conftest import view_forms


def test_an_asset_is_got_as_it_was_created(client, view, catalog):
    created = view(source="ns/a", external="arn:a", description="The best.")
    got = client.get_asset(identifier=created["id"])
    assert got == created
    assert (got["revision"], got["description"], got["externalIdentifier"]) == ("1", "The best.", "arn:a")
    form = next(form for form in got["formsOutput"] if form["formName"] == "AssetCommonDetailsForm")
    assert form["typeName"] == "amazon.datazone.AssetCommonDetailsFormType"
    assert json.loads(form["content"]) == {"sourceIdentifier": "ns/a"}


def test_a_revision_has_only_the_forms_it_is_given(client, view):
    asset = view(source="ns/a")["id"]
    revised = client.create_asset_revision(identifier=asset, name="new", formsInput=view_forms()[:1])
    assert (revised["revision"], revised["name"], len(revised["formsOutput"])) == ("2", "new", 1)
    assert client.get_asset(identifier=asset)["revision"] == "2"
    assert client.get_asset(identifier=asset, revision="1")["name"] == "rpt_top"
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="revision 3"):
        client.get_asset(identifier=asset, revision="3")


def test_an_external_identifier_is_unique(client, view):
    first = view(external="arn:a")["id"]
    with pytest.raises(client.exceptions.ConflictException, match=first):
        view(external="arn:a")
    assert view(external="arn:b")["id"] != first


def test_the_same_token_is_the_same_asset(client, view):
    assert view(clientToken="t")["id"] == view(clientToken="t")["id"]
    with pytest.raises(client.exceptions.ConflictException):
        view("rpt_other", clientToken="t")
    assert client.search(searchScope="ASSET")["totalMatchCount"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "n" * 257}, "name: length: expected at most 256"),
        ({"description": "d" * 2049}, "at most 2048"),
        ({"externalIdentifier": "e" * 601}, "at most 600"),
        ({"typeIdentifier": ".type"}, "typeIdentifier: expected to match"),
        ({"typeRevision": "1"}, "typeRevision: expected 9"),
        ({"formsInput": []}, r"RedshiftViewForm, which .* requires"),
        ({"formsInput": view_forms() + view_forms()[:1]}, "once, found RedshiftViewForm"),
        ({"formsInput": [{"formName": "OwnForm"}]}, "found OwnForm"),
        ({"formsInput": [{"formName": "1"}]}, "formName: expected to match"),
        ({"formsInput": [view_forms()[0] | {"typeRevision": "0"}]}, "expected revision 7, found 0"),
        ({"formsInput": [view_forms()[0] | {"typeIdentifier": "other"}]}, "expected type amazon.datazone.Redshift"),
        ({"formsInput": [view_forms()[0] | {"content": "{"}]}, "expected JSON"),
        ({"formsInput": [view_forms()[0] | {"content": "[]"}]}, "expected an object"),
        ({"formsInput": view_forms(storageType="DISK")}, "storageType: expected one of SERVERLESS, CLUSTER"),
        ({"formsInput": view_forms(tableName="t")}, "RedshiftViewFormType.tableName: expected only viewName"),
        ({"formsInput": view_forms(columns=[{"columnName": 7}])}, r"columns\[0\].dataType: expected a value"),
        ({"formsInput": view_forms(viewName=None)}, "viewName: expected a value, found none"),
    ],
)
def test_an_asset_that_the_service_would_not_take_is_refused(client, view, arguments, message):
    with pytest.raises(client.exceptions.ValidationException, match=message):
        view(**arguments)
    assert client.search(searchScope="ASSET")["items"] == []


@pytest.mark.parametrize(
    "arguments", [{"owningProjectIdentifier": "other"}, {"typeIdentifier": "amazon.datazone.OtherAssetType"}]
)
def test_an_asset_of_what_is_not_there_is_refused(client, view, arguments):
    with pytest.raises(client.exceptions.ResourceNotFoundException, match=r"other|Other"):
        view(**arguments)


def test_types_tell_their_forms_and_fields(client):
    kind = client.get_asset_type(identifier="amazon.datazone.RedshiftViewAssetType")
    entry = kind["formsOutput"]["RedshiftViewForm"]
    assert entry["required"] is True
    form = client.get_form_type(formTypeIdentifier=entry["typeName"], revision=entry["typeRevision"])
    assert "    @required\n    viewName: String" in form["model"]["smithy"]
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_form_type(formTypeIdentifier=entry["typeName"], revision="1")
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="no form type own"):
        client.get_form_type(formTypeIdentifier="own")


def test_every_asset_is_on_exactly_one_page_of_a_search(client, view):
    ids = [view(f"rpt_{number}")["id"] for number in range(5)]
    found, token = [], {}
    while True:
        page = client.search(searchScope="ASSET", maxResults=2, **token)
        found += [item["assetItem"]["identifier"] for item in page["items"]]
        assert page["totalMatchCount"] == 5
        if "nextToken" not in page:
            break
        token = {"nextToken": page["nextToken"]}
    assert found == ids


def found(client, **arguments):
    return [item["assetItem"]["name"] for item in client.search(searchScope="ASSET", **arguments)["items"]]


def test_a_search_finds_by_words_fields_filters_and_project(client, view, catalog):
    view("rpt_top", description="The best events")
    view("rpt_day", description="The best days")
    assert found(client, searchText="BEST events") == ["rpt_top"]
    assert found(client, searchText="rpt_day", searchIn=[{"attribute": "RedshiftViewForm.viewName"}]) == ["rpt_day"]
    assert found(client, searchText="rpt_day", searchIn=[{"attribute": "description"}]) == []
    top = {"filter": {"attribute": "name", "value": "rpt_top"}}
    other = {"filter": {"attribute": "description", "value": "days", "operator": "TEXT_SEARCH"}}
    assert found(client, filters=top) == ["rpt_top"]
    assert found(client, filters={"or": [top, other]}) == ["rpt_top", "rpt_day"]
    assert found(client, filters={"and": [top, other]}) == []
    assert found(client, sort={"attribute": "name"}) == ["rpt_day", "rpt_top"]
    assert found(client, sort={"attribute": "name", "order": "DESCENDING"}) == ["rpt_top", "rpt_day"]
    assert found(client, owningProjectIdentifier=catalog.project_id) == ["rpt_top", "rpt_day"]
    assert found(client, owningProjectIdentifier="other") == []


def test_a_search_finds_the_latest_revision_only(client, view):
    asset = view("rpt_top")["id"]
    client.create_asset_revision(identifier=asset, name="renamed", formsInput=view_forms())
    assert found(client) == ["renamed"]


def test_forms_are_told_on_request_only(client, view):
    view()
    (item,) = client.search(searchScope="ASSET")["items"]
    assert "additionalAttributes" not in item["assetItem"]
    (item,) = client.search(searchScope="ASSET", additionalAttributes=["FORMS"])["items"]
    assert item["assetItem"]["additionalAttributes"]["formsOutput"][0]["formName"] == "RedshiftViewForm"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"searchScope": "ASSETS"}, "searchScope: expected one of ASSET"),
        ({"searchScope": "GLOSSARY"}, "searches ASSET and DATA_PRODUCT"),
        ({"searchScope": "ASSET", "additionalAttributes": ["ALL"]}, r"additionalAttributes\[0\]"),
        ({"searchScope": "ASSET", "searchText": "t" * 513}, "at most 512"),
        ({"searchScope": "ASSET", "filters": {"filter": {"attribute": "name", "value": "v" * 129}}}, "at most 128"),
    ],
)
def test_a_search_that_the_model_does_not_allow_is_refused(client, view, arguments, message):
    view()
    with pytest.raises(client.exceptions.ValidationException, match=message):
        client.search(**arguments)


def test_a_product_of_assets_is_created_and_found(client, view, catalog):
    asset = view()["id"]
    items = [{"itemType": "ASSET", "identifier": asset}]
    wanted = {"name": "best selling", "owningProjectIdentifier": catalog.project_id, "items": items}
    product = client.create_data_product(**wanted, description="All of it")
    assert client.get_data_product(identifier=product["id"]) == product
    assert (product["items"], product["status"]) == (items, "CREATED")
    assert client.search(searchScope="DATA_PRODUCT")["items"][0]["dataProductItem"]["id"] == product["id"]
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="no ASSET none"):
        client.create_data_product(**wanted | {"items": [{"itemType": "ASSET", "identifier": "none"}]})
    with pytest.raises(client.exceptions.ValidationException, match=r"items\[0\].itemType"):
        client.create_data_product(**wanted | {"items": [{"itemType": "VIEW", "identifier": asset}]})


def test_a_listing_is_published_revised_and_withdrawn(client, view):
    asset = view("r" * 100, description="The best.")["id"]
    entity = {"entityIdentifier": asset, "entityType": "ASSET"}
    first = client.create_listing_change_set(**entity, action="PUBLISH")
    assert (first["status"], client.get_asset(identifier=asset)["listing"]["listingStatus"]) == ("ACTIVE", "ACTIVE")
    listing = client.get_listing(identifier=first["listingId"])
    assert (listing["name"], listing["item"]["assetListing"]["assetId"]) == ("r" * 64, asset)
    client.create_asset_revision(identifier=asset, name="new", formsInput=view_forms())
    second = client.create_listing_change_set(**entity, action="PUBLISH")
    assert (second["listingId"], second["listingRevision"]) == (first["listingId"], "2")
    (item,) = client.search_listings(searchText="new", additionalAttributes=["FORMS"])["items"]
    assert item["assetListing"]["entityRevision"] == "2"
    assert (
        json.loads(item["assetListing"]["additionalAttributes"]["forms"])["RedshiftViewForm"]["databaseName"] == "dev"
    )
    assert client.create_listing_change_set(**entity, action="UNPUBLISH")["status"] == "INACTIVE"
    assert client.search_listings()["items"] == []


def test_what_was_never_published_can_not_be_withdrawn(client, view):
    asset = view()["id"]
    with pytest.raises(client.exceptions.ResourceNotFoundException, match="no listing of ASSET"):
        client.create_listing_change_set(entityIdentifier=asset, entityType="ASSET", action="UNPUBLISH")


def test_a_products_listing_is_got_and_found(client, catalog):
    product = client.create_data_product(name="p", owningProjectIdentifier=catalog.project_id)["id"]
    made = client.create_listing_change_set(entityIdentifier=product, entityType="DATA_PRODUCT", action="PUBLISH")
    assert client.get_listing(identifier=made["listingId"])["item"]["dataProductListing"]["dataProductId"] == product
    assert client.search_listings()["items"][0]["dataProductListing"]["entityId"] == product
